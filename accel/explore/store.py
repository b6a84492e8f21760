"""The results of an exploration in one SQLite file: every point is a transaction, so that a kill loses none."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from accel.errors import InputError, ToolError
from accel.explore.point import Point
from accel.machine.config import ArchConfig
from accel.report.energy import EnergyTable

TYPES = {"int": "INTEGER", "float": "REAL", "str": "TEXT", "bool": "INTEGER", "tuple[str, ...]": "TEXT"}


class Store:
    """An open file; used by one process at a time.

    Parameters
    ----------
    path : Path
        Made if it does not exist.
    version : str
        Digest of what computes the points (`accel.explore.explore.version`).
    energies : EnergyTable

    Raises
    ------
    InputError
        The file is something else, is in use, or holds points that another version or table of energies gave.
    """

    def __init__(self, path: Path, version: str, energies: EnergyTable) -> None:
        self.path = path
        about = {"version": version, "energies": json.dumps(asdict(energies), sort_keys=True)}
        try:
            self._file = sqlite3.connect(path, timeout=1, isolation_level=None)
            self._file.row_factory = sqlite3.Row
            self._file.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._file.execute("BEGIN EXCLUSIVE")
            self._file.execute("CREATE TABLE IF NOT EXISTS about (key TEXT PRIMARY KEY, value TEXT)")
            self._file.execute(f"CREATE TABLE IF NOT EXISTS points ({_columns()}, PRIMARY KEY (digest, fingerprint))")
            found = {row["key"]: row["value"] for row in self._file.execute("SELECT key, value FROM about")}
            if not found:
                self._file.executemany("INSERT INTO about VALUES (?, ?)", about.items())
            self._file.execute("COMMIT")
        except sqlite3.Error as error:
            raise InputError(f"{path}: must be a file of results that nobody else writes, got: {error}") from None
        for key, what in (("version", "version of accel"), ("energies", "table of energies")):
            if found and found.get(key) != about[key]:
                self.close()
                raise InputError(f"{path}: holds points of another {what}; give -o a new file, or remove this one")

    def points(self) -> dict[tuple[str, str], Point]:
        """All points by their keys."""
        with self._problems():
            rows = [Point.from_row(row) for row in self._file.execute("SELECT * FROM points")]
        return {point.key: point for point in rows}

    def add(self, point: Point) -> None:
        """Keep a point; it replaces one without figures.

        Raises
        ------
        ToolError
            The disk is full, or the file cannot be written; all points before are kept.
        """
        row = point.row()
        marks = ", ".join(f":{name}" for name in row)
        with self._problems():
            self._file.execute(f"INSERT OR REPLACE INTO points ({', '.join(map(_quoted, row))}) VALUES ({marks})", row)

    def close(self) -> None:
        """Release the file."""
        self._file.close()

    @contextmanager
    def _problems(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, KeyError, ValueError) as error:
            raise ToolError(
                f"{self.path}: {error}; the points before are kept: repeat the command to continue"
            ) from None


def _columns() -> str:
    """The columns of `Point.row` with their types."""
    found: dict[str, Any] = {"fingerprint": "str"}
    found |= {field.name: field.type for field in fields(Point) if field.name != "config"}
    found |= {field.name: field.type for field in fields(ArchConfig)}
    return ", ".join(f"{_quoted(name)} {TYPES[kind]}" for name, kind in found.items())


def _quoted(name: str) -> str:
    return f'"{name}"'

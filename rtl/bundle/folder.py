"""The folder of a bundle: a list in it tells the bundle's files from those that its users put beside them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from accel.errors import InputError

MANIFEST = "MANIFEST"
HEAD = "# The files that `accel verilog --bundle` wrote here, and replaces when it writes again.\n"


def manifest(names: Iterable[str]) -> str:
    """The list of a bundle's files, by relative paths."""
    return HEAD + "".join(f"{name}\n" for name in sorted(names))


def write_folder(target: Path, texts: Mapping[str, str]) -> list[Path]:
    """Write texts by their relative paths, one of which is `MANIFEST`; returns the files' paths.

    The files of a bundle that was written there before are replaced or removed. An error (no room, a path that is too
    long, an interrupt) leaves everything as it was.

    Raises
    ------
    InputError
        There is something else in the folder than a bundle, or a folder where a file belongs.
    """
    old = _listed(target)
    for name in texts:
        if (target / name).is_dir():
            raise InputError(f"{target / name}: must be a file of the bundle or nothing, got a folder")
    parents = {parent for name in texts for parent in (target / name).parents}
    made = sorted((folder for folder in parents if not folder.exists()), key=lambda folder: -len(folder.parts))
    try:
        target.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target, prefix=f".{MANIFEST}.") as aside:
            new, kept = Path(aside, "new"), Path(aside, "kept")
            for name, text in texts.items():
                (new / name).parent.mkdir(parents=True, exist_ok=True)
                (new / name).write_bytes(text.encode())
            try:
                for name in sorted(old | texts.keys()):
                    _move(target / name, kept / name)
                    _move(new / name, target / name)
            except BaseException:
                for name in old | texts.keys():
                    if name in texts and not (new / name).exists():
                        (target / name).unlink()
                    _move(kept / name, target / name)
                raise
    except BaseException:
        for folder in made:
            with suppress(OSError):
                folder.rmdir()
        raise
    return [target / name for name in texts]


def _move(source: Path, place: Path) -> None:
    """A file to its place, if there is one."""
    if os.path.lexists(source):
        place.parent.mkdir(parents=True, exist_ok=True)
        os.replace(source, place)


def _listed(target: Path) -> set[str]:
    """The files of the bundle that is in a folder; none if the folder is new or empty."""
    if not target.is_dir() or not any(target.iterdir()):
        return set()
    path = target / MANIFEST
    head, *names = path.read_text(encoding="utf-8", errors="replace").splitlines(True) if path.is_file() else [""]
    if head != HEAD:
        raise InputError(f"{target}: must be new, empty, or a bundle's folder ({MANIFEST} lists its files), got others")
    inside = (name.rstrip("\n") for name in names)
    return {name for name in inside if (target / name).resolve().is_relative_to(target.resolve())}

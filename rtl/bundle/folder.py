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

    The files of a bundle that was written there before are replaced or removed. All texts are on the disk before the
    first one gets its place: an error until then (no room, a path that is too long) leaves everything as it was.

    Raises
    ------
    InputError
        There is something else in the folder than a bundle.
    """
    old = _listed(target)
    made = [folder for folder in (target, *target.parents) if not folder.exists()]
    try:
        target.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target, prefix=f".{MANIFEST}.") as aside:
            for name, text in texts.items():
                path = Path(aside, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(text.encode())
            for name in texts:
                (target / name).parent.mkdir(parents=True, exist_ok=True)
                os.replace(Path(aside, name), target / name)
    except BaseException:
        for folder in made:
            with suppress(OSError):
                folder.rmdir()
        raise
    for name in old - texts.keys():
        (target / name).unlink(missing_ok=True)
    return [target / name for name in texts]


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

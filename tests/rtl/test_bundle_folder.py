"""The folder of a bundle: what is replaced, what stays, and what happens when writing fails."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from accel.errors import InputError
from rtl.bundle.folder import HEAD, MANIFEST, manifest, write_folder


def texts(*names: str) -> dict[str, str]:
    """A bundle of small files."""
    return {name: f"{name}, new\n" for name in names} | {MANIFEST: manifest([*names, MANIFEST])}


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_bundle_replaces_the_one_before_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder"
    paths = write_folder(target, texts("a.f", "rtl/a.v", "rtl/b.v"))
    assert {str(path.relative_to(target)) for path in paths} == files(target) == {"a.f", "rtl/a.v", "rtl/b.v", MANIFEST}
    (target / "rtl/own.v").write_text("own\n")
    (target / "rtl/a.v").write_text("changed\n")
    write_folder(target, texts("b.f", "rtl/a.v"))
    assert files(target) == {"b.f", "rtl/a.v", "rtl/own.v", MANIFEST}
    assert (target / "rtl/a.v").read_text() == "rtl/a.v, new\n"


def test_an_empty_folder_will_do(tmp_path: Path) -> None:
    write_folder(tmp_path, texts("a.f"))
    assert files(tmp_path) == {"a.f", MANIFEST}


@pytest.mark.parametrize("other", ["README.md", MANIFEST])
def test_files_of_others_are_not_written_over(tmp_path: Path, other: str) -> None:
    (tmp_path / other).write_text("setup.py\n")
    with pytest.raises(InputError) as refusal:
        write_folder(tmp_path, texts("README.md"))
    expected = "must be new, empty, or a bundle's folder (MANIFEST lists its files), got others"
    assert str(refusal.value) == f"{tmp_path}: {expected}"
    assert files(tmp_path) == {other}


def test_nothing_outside_of_the_folder_is_removed(tmp_path: Path) -> None:
    target, outside = tmp_path / "bundle", tmp_path / "outside"
    write_folder(target, texts("a.f"))
    outside.write_text("own\n")
    (target / MANIFEST).write_text(f"{HEAD}a.f\n../outside\n{outside}\n")
    write_folder(target, texts("b.f"))
    assert outside.exists()
    assert files(target) == {"b.f", MANIFEST}


@pytest.mark.parametrize("existing", [False, True])
def test_a_failure_leaves_everything_as_it_was(tmp_path: Path, existing: bool) -> None:
    target = tmp_path / "new" / "folder"
    if existing:
        write_folder(target, texts("a.f"))
    with pytest.raises(OSError, match="File name too long"):
        write_folder(target, {"rtl/b.v": "b\n", **texts("b" * 300)})
    assert files(tmp_path) == ({"new/folder/a.f", f"new/folder/{MANIFEST}"} if existing else set())
    assert (tmp_path / "new").exists() == existing


def contents(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.is_file() and path.read_text() for path in folder.rglob("*")}


def test_a_folder_in_a_files_place_is_refused(tmp_path: Path) -> None:
    write_folder(tmp_path, texts("a.f"))
    (tmp_path / "b.f").mkdir()
    before = contents(tmp_path)
    with pytest.raises(InputError, match=r"/b\.f: must be a file of the bundle or nothing, got a folder$"):
        write_folder(tmp_path, texts("a.f", "b.f"))
    assert contents(tmp_path) == before


@pytest.mark.parametrize("existing", [False, True])
@pytest.mark.parametrize("after", [False, True])
def test_an_interrupt_at_any_time_leaves_everything_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, existing: bool, after: bool
) -> None:
    """Before each replacement, and behind it."""
    target = tmp_path / "bundle"
    if existing:
        write_folder(target, {name: f"old {text}" for name, text in texts("a.f", "rtl/a.v", "old/b.v").items()} |
                     {MANIFEST: texts("a.f", "rtl/a.v", "old/b.v")[MANIFEST]})  # fmt: skip
    before, replace, left = contents(tmp_path), os.replace, 0

    def interrupted(*paths: Any) -> None:
        nonlocal left
        left -= 1
        if left == 0 and not after:
            raise KeyboardInterrupt
        replace(*paths)
        if left == 0:
            raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    for number in range(1, 100):
        left = number
        try:
            write_folder(target, texts("a.f", "rtl/a.v", "rtl/b.v"))
            break
        except KeyboardInterrupt:
            assert contents(tmp_path) == before
    assert number > 4 * (1 + existing)
    assert files(target) == {"a.f", "rtl/a.v", "rtl/b.v", MANIFEST}

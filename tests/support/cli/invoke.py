"""Calling the command line in this process."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner, Result

from accel.cli.main import main


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def success(*arguments: str) -> str:
    result = invoke(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def error(*arguments: str, code: int = 2) -> str:
    """The one sentence of a failing command, which changes no file of the test's own current folder."""
    assert not Path("pyproject.toml").exists(), "the test must change to a folder of its own: others write here"
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    result = invoke(*arguments)
    assert (result.exit_code, result.stdout) == (code, ""), result.output
    assert isinstance(result.exception, SystemExit)
    assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()} == before
    (line,) = result.stderr.splitlines()
    return line

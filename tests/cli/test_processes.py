"""The command line as a process: imports, pipes, signals, tracebacks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.cli.invoke import error

import accel

ROOT = Path(accel.__file__).parents[1]
HEAVY = ("numba", "amaranth", "onnx", "onnxruntime", "torch", "numpy", "rich")


def subprocess_run(*arguments: str, code: str = "from accel.cli.main import main; main()") -> Any:
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False)  # fmt: skip


def test_interruption_is_not_a_mismatch(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("accel.machine.isa.disassemble", interrupt)
    assert error("disassemble", "a.program", code=130) == "Interrupted"


def test_help_is_instant_and_imports_nothing_heavy() -> None:
    code = (
        "import sys, time\nfrom accel.cli.main import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as end:\n"
        f"    print(end.code, *[name for name in {HEAVY} if name in sys.modules])\n"
        "    print(time.process_time())"
    )
    outputs = [subprocess_run(code=code).stdout.splitlines() for _ in range(3)]
    assert {lines[-2] for lines in outputs} == {"0"}
    # 0.2 s on an idle machine; time of this process only.
    assert min(float(lines[-1]) for lines in outputs) < 0.8


def test_processes_end_without_traceback(files: Path) -> None:
    for arguments, code in (
        (["disassemble", "x.npy"], 2),
        (["run", "a.program", "-o", "y.npy"], 2),
        (["config", "edge"], 0),
    ):
        run = subprocess_run(*arguments)
        assert run.returncode == code, run
        assert "Traceback" not in run.stderr


def test_a_closed_pipe_is_quiet(files: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    code = "from accel.cli.main import main; main()"
    with subprocess.Popen([sys.executable, "-c", code, "disassemble", "a.program"], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, env=environment) as process:  # fmt: skip
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        assert process.stderr.read() == b""

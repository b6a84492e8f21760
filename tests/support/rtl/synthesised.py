"""The netlist of look-up tables, registers, multipliers and memories that yosys synthesises of a machine."""

from __future__ import annotations

from accel.machine.config import ArchConfig
from rtl.testbench.cache import cached_verilog
from rtl.testbench.verilate import Variant
from rtl.verilog import TOP
from support.mutants.netlist_mutants import READ, mutated

SYNTHESIS = (
    *READ,
    "wreduce",
    "opt_clean",
    "chtype -set multiplier t:$mul",
    f"synth -top {TOP} -run coarse:fine",
    "opt -fast -full",
    *["techmap t:$* t:$*ff* %d t:$mem* %d"] * 3,
    "opt -fast",
    "abc -lut 4",
    "opt -fast",
    "chtype -set $mul t:multiplier",
    "opt_clean -purge",
)
"""`synth -lut 4`, but multipliers and memories stay whole, as blocks of an FPGA or a foundry's macros take their
place, and registers stay vectors. A selection has none of the cells that `techmap` makes of it: hence three rounds."""

FAULTY, FAULTS = f"{TOP}_post_lane/t:$lut", 6


def synthesised(config: ArchConfig) -> Variant:
    """The netlist, with bus monitors and verification port; `FAULTS` mutants have a fault each in a table of POST."""
    verilog, _ = mutated(cached_verilog(config), FAULTS, 0, SYNTHESIS, FAULTY)
    return Variant(verilog, mutants=True)

"""Mutants of the emitted Verilog by yosys's `mutate`: all of them in one netlist, each chosen by a number on an input.

References
----------
Mutation Cover with Yosys (MCY), YosysHQ, 2019: the same command, with one netlist per mutant.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from rtl.verilog import TOP
from support.rtl.yosys import run_yosys

READ = ("read_verilog machine.v", f"hierarchy -top {TOP}", "proc", "opt_clean")
WRITE = ("opt_reduce", "opt_clean", "write_verilog -noattr mutants.v")
"""Without `opt_reduce` each bit of a memory's word has its own enable, and Verilator takes twelve times as long."""

MUTABLE = "* *_monitor* %d t:$meminit* %d"
"""All cells but those of the bus monitors, which are no part of the machine, and of memories' initial contents."""


@dataclass(frozen=True, eq=False)
class NetlistMutant:
    """One mutant.

    Parameters
    ----------
    number : int
        Value of the input `mutant` that makes it active, from 1 on.
    options : dict of str to str
        Of the command `mutate`: `mode` (inv, const0, const1, cnot0, cnot1), `module`, `cell`, `port`, `portbit`, ...
    """

    number: int
    options: dict[str, str]

    @property
    def module(self) -> str:
        """The mutated module, without the prefix of all names and without yosys's mark of parameters."""
        return self.options["module"].split("\\")[-1].removeprefix(TOP).removeprefix("_") or "top"

    def command(self, **changes: str) -> str:
        """The command that makes it."""
        return "mutate " + " ".join(f"-{name} {value}" for name, value in (self.options | changes).items())

    def __str__(self) -> str:
        wire = f" ({self.options['wire']}[{self.options['wirebit']}])" if "wire" in self.options else ""
        place = f"{self.options['cell']} {self.options['port']}[{self.options['portbit']}]"
        return f"{self.number}: {self.options['mode']} in {self.module}, {place}{wire}"


def mutated(
    verilog: str, count: int, seed: int, steps: tuple[str, ...] = READ, cells: str = MUTABLE
) -> tuple[str, list[NetlistMutant]]:
    """Verilog with `count` mutants, spread over modules, cells and wires by yosys, and the mutants.

    Parameters
    ----------
    verilog : str
    count, seed : int
    steps : tuple of str
        Yosys's commands before the mutation, from machine.v on.
    cells : str
        Yosys's selection of what may be mutated.
    """
    width = count.bit_length()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "machine.v").write_text(verilog, encoding="utf-8")
        _run([*steps, f"mutate -list {count} -seed {seed} -o list.txt {cells}", "write_rtlil machine.il"], folder)
        lines = (folder / "list.txt").read_text(encoding="utf-8").splitlines()
        mutants = [NetlistMutant(number, options_of(line)) for number, line in enumerate(lines, 1)]
        commands = [f"{mutant.command()} -ctrl mutant {width} {mutant.number}" for mutant in mutants]
        (folder / "apply.ys").write_text("\n".join(commands) + "\n", encoding="utf-8")
        _run(["read_rtlil machine.il", "script apply.ys", *WRITE], folder)
        return (folder / "mutants.v").read_text(encoding="utf-8"), mutants


def options_of(line: str) -> dict[str, str]:
    """Of a line of `mutate -list`, without where its text came from."""
    words = line.split()[1:]
    pairs = dict(zip(words[::2], words[1::2], strict=True))
    return {name.removeprefix("-"): value for name, value in pairs.items() if name != "-src"}


def _run(commands: list[str], folder: Path) -> None:
    done = run_yosys("\n".join(commands), folder)
    assert done.returncode == 0, done.stderr[-2000:]

"""Mutants that no run of their module can tell from it, whatever its inputs do: equivalence from the reset state on.

The module with all its mutants becomes an and-inverter graph; two copies, one with the mutant active, share the
inputs, and the registers that the mutant cannot reach. ABC shows that no output ever differs: it merges signals that
are equal by induction, then looks for an invariant. Words of memories are cut out: what is written and the addresses
that are read count as outputs, what is read as inputs, but for bits that are 0 in all that is ever written.

References
----------
C. A. J. van Eijk, Sequential equivalence checking based on structural similarities, IEEE TCAD 19(7), 2000.
A. R. Bradley, SAT-based model checking without unrolling, VMCAI 2011.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Collection, Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

from accel.errors import ToolError
from rtl.verilog import TOP
from support.mutants.aig import Graph, Miter
from support.mutants.netlist_mutants import NetlistMutant
from support.mutants.observability import MONITOR, MONITORS
from support.rtl.yosys import run_yosys

ABC = ("berkeley-abc", "yosys-abc")
CPU_SECONDS = 60
"""After which a proof is given up; of the CPU, so that other work on the machine costs none."""

REFUTE, REFUTE_CPU_SECONDS = "bmc3 -F 12", 5
REFUTED = "was asserted"
PROVE = "scorr -C 100; dc2; pdr"
PROVED = "Property proved"
"""What ABC does and prints: most mutants that are not equivalent differ after a few cycles."""

CLOCKS = ("\\CLK", "\\C", "\\clk")
"""Ports that the graph does not have: all that is clocked moves at once in it, so that it proves nothing of clocks."""

LEVELS = 3
STORES = ("scratchpad", "accumulators", "param_memory", "table_memory", "tap_memory", "weight_buffer")
"""Units that hold memories on the chip."""

INITIAL_WORD = re.compile(r"(?m)^\s+[^\s\[]+\[\d+\] = \d+'[bdh]0*[1-9a-f]")
"""A word of a memory that is not 0 at first, as yosys writes it."""

PARALLEL = " // synopsys parallel_case"
"""What yosys writes beside choices by one-hot bits, and believes; where Verilator takes the first of several."""

QUEUE, UNIT = "_queue", "_unit"
"""Ends of the names of queues and of the units that they belong to."""

GRAPH = (
    "proc",
    "flatten",
    "opt_clean",
    "opt_dff",
    "opt_clean",
    "memory_dff",
    "memory_collect",
    "opt_clean",
    f"delete t:*{MONITOR}",
    f"delete w:{MONITORS}",
    "expose -evert t:$mem_v2",
    "expose -evert c:*",
    "opt_clean",
    "setundef -zero",
    "opt_clean",
    "dffunmap",
    "techmap",
    "opt_clean",
    "aigmap",
    "opt_clean",
)
LOOP = "Assert `a >= 0' failed"
"""What yosys says of a loop without a register."""

WRITE = "write_aiger -zinit -symbols"
"""From a module to its graph, around its instances. What is undefined in the Verilog is 0, as the suites see it."""


def indistinguishable(verilog: str, mutants: Sequence[NetlistMutant]) -> set[int]:
    """Numbers of those for which ABC finds a proof, in the netlist with all mutants; never of one of a clock.

    First of the mutant's module with all that is in it, then of each module that holds it, at last of the machine
    without the units that do not hold it: what they are given counts as outputs, but for memories on the chip, in which
    addresses and data without an enable have no effect.
    """
    design, graphs = Design(verilog), dict[Part, Graph | None]()
    found: set[int] = set()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for levels, mutant in product(range(LEVELS + 1), mutants):
            if mutant.number in found or mutant.options.get("port") in CLOCKS:
                continue
            parts = design.around(mutant.options["module"], levels)
            graphs |= {part: design.graph(part, folder) for part in parts - graphs.keys()}
            known = [graph for part in parts if (graph := graphs[part])]
            whole = parts and len(known) == len(parts)
            if whole and all(proved(Miter(graph, (0, mutant.number)), folder) for graph in known):
                found.add(mutant.number)
    return found


class Part(NamedTuple):
    """A module, and the names of the modules in it that are cut out, sorted."""

    module: str
    cut: tuple[str, ...]


class Design:
    """The modules of a netlist as yosys writes it, and which is in which."""

    def __init__(self, verilog: str) -> None:
        texts = re.split(r"(?m)^(?=module )", verilog.replace(PARALLEL, ""))[1:]
        assert not INITIAL_WORD.search(verilog), "memories must be 0 at first"
        self._texts = {text.removeprefix("module ").partition("(")[0].strip(): text for text in texts}
        self._inside = {
            name: {cell for cell in re.findall(r"(?m)^  (\S+) +\S+ +\(\n", text) if cell in self._texts}
            for name, text in self._texts.items()
        }

    def around(self, module: str, levels: int) -> set[Part]:
        """What holds all instances of a module, so many levels above it; none if that is the machine, but `LEVELS`
        above it the machine without other units, with a queue its unit."""
        found = {"\\" + module if module.startswith("$") else module.removeprefix("\\")}
        if levels == LEVELS:
            return self._machine(*found)
        for _ in range(levels):
            parents = {name: [parent for parent, cells in self._inside.items() if name in cells] for name in found}
            found = set().union(*parents.values())
            if TOP in found or not found:
                return set()
        return {self._part(name, set()) for name in found - {TOP}}

    def graph(self, part: Part, folder: Path) -> Graph | None:
        """The graph of a part, None if it has none: the mutants together may close a loop without a register."""
        texts = [_black_box(self._texts[name]) for name in part.cut]
        texts += [self._texts[name] for name in self._below(part.module, part.cut) if name not in part.cut]
        (folder / "part.v").write_text("".join(texts), encoding="utf-8")
        steps = ["read_verilog part.v", f"hierarchy -top {part.module}", *GRAPH, f"{WRITE} part.aig"]
        done = run_yosys("\n".join(steps), folder)
        assert not done.returncode or LOOP in done.stderr, done.stderr[-2000:]
        return None if done.returncode else Graph.read((folder / "part.aig").read_bytes())

    def _machine(self, module: str) -> set[Part]:
        """The machine without the units that do not hold a module, with the unit of a queue that does; none if too many
        do."""
        held = {unit for unit in self._inside.get(TOP, ()) if module in self._below(unit, ())}
        stores = {unit for unit in self._inside.get(TOP, ()) if unit.removeprefix(f"{TOP}_") in STORES}
        if len(held) > 1 or TOP not in self._texts:
            return set()
        beside = {unit.replace(QUEUE, UNIT) for unit in held} | {unit.replace(UNIT, QUEUE) for unit in held}
        return {self._part(TOP, self._inside[TOP] - held - beside - stores)}

    def _part(self, module: str, cut: set[str]) -> Part:
        """A module without those in it that are monitors or in `cut`."""
        inside = self._below(module, cut)
        return Part(module, tuple(sorted(n for n in inside if n in cut or n.endswith(MONITOR))))

    def _below(self, module: str, cut: Collection[str]) -> set[str]:
        """A module and all that is in it, but for what is only in those of `cut` and in monitors."""
        if module in cut or module.endswith(MONITOR):
            return {module}
        return {module}.union(*(self._below(name, cut) for name in self._inside[module]))


def _black_box(module: str) -> str:
    """The module without what is in it."""
    ports = re.findall(r"(?m)^  (?:input|output) [^\n]*;\n", module)
    return "(* blackbox *)\n" + module.partition(";\n")[0] + ";\n" + "".join(ports) + "endmodule\n"


def proved(miter: Miter, folder: Path) -> bool:
    """Whether ABC shows that a miter's output is always 0."""
    abc = next((path for path in map(shutil.which, ABC) if path), None)
    if abc is None:
        raise ToolError(f"one of {', '.join(ABC)} must be installed to prove mutants equivalent, got none on the path")
    (folder / "miter.aig").write_bytes(miter.data)
    if REFUTED in _said(abc, REFUTE, REFUTE_CPU_SECONDS, folder):
        return False
    return PROVED in _said(abc, PROVE, CPU_SECONDS, folder)


def _said(abc: str, script: str, seconds: int, folder: Path) -> str:
    """What ABC prints until it ends, or has taken so many seconds of the CPU."""
    limited = ["sh", "-c", f'ulimit -t {seconds}; exec "$@"', "sh"]
    command = [*limited, abc, "-c", f"read miter.aig; strash; {script}"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False).stdout

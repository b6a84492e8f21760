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
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, reduce
from itertools import count, product, takewhile
from pathlib import Path
from typing import NamedTuple

from accel.errors import ToolError
from rtl.verilog import TOP
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

MEMORY_PORT = re.compile(r"(.*\.)(RD_ADDR|WR_ADDR|WR_DATA)(?:\[(\d+)\])?")
"""Names of outputs to a memory that is cut out: without the port's enable an address has no effect, without its own one
a bit that is written."""

MEMORY_BIT = re.compile(r"(.*\.)(RD_DATA|RD_EN|RD_ARST|RD_SRST|WR_DATA)(?:\[(\d+)\])?")

INITIAL_WORD = re.compile(r"(?m)^\s+[^\s\[]+\[\d+\] = \d+'[bdh]0*[1-9a-f]")
"""A word of a memory that is not 0 at first, as yosys writes it."""

BUS_PORT = re.compile(r"([a-z]+_(?:aw|ar|w|r|b))(?!valid|ready)[a-z]+(?:\[\d+\])?")
"""Names of what the machine offers on a channel of AXI, which has no meaning without the channel's valid."""

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


@dataclass(eq=False)
class Graph:
    """An and-inverter graph in AIGER's literals.

    Parameters
    ----------
    inputs : list of str
        Names; input i has the literal 2 (i + 1).
    latches : list of int
        Literals of their next values; latch i follows the inputs and is 0 at first.
    outputs : list of int
    enables : list of (list of int)
        For each output the places of others of which one must be 1 so that it has an effect; none: it always has.
    ands : list of (int, int)
        Of gate i, which follows the latches.
    written : dict of int to (list of int)
        Of each input that a memory reads the outputs that are written to its bit, or that reset what is read.
    """

    inputs: list[str]
    latches: list[int]
    outputs: list[int]
    enables: list[list[int]]
    ands: list[tuple[int, int]]
    written: dict[int, list[int]] = field(default_factory=dict)

    @staticmethod
    def read(data: bytes) -> Graph:
        """Of a binary AIGER file with names of its inputs and outputs."""
        header, _, rest = data.partition(b"\n")
        _, inputs, latches, outputs, gates = map(int, header.split()[1:6])
        lines = rest.split(b"\n", latches + outputs)
        literals = [int(line.split()[0]) for line in lines[:-1]]
        names = [f"{i}" for i in range(inputs)]
        tail, place, ands = lines[-1], 0, []
        for gate in range(gates):
            literal = 2 * (inputs + latches + gate + 1)
            deltas = []
            for _ in range(2):
                value = shift = 0
                while True:
                    byte = tail[place]
                    place += 1
                    value |= (byte & 127) << shift
                    shift += 7
                    if byte < 128:
                        break
                deltas.append(value)
            first = literal - deltas[0]
            ands.append((first, first - deltas[1]))
        places: dict[str, int] = {}
        for line in tail[place:].split(b"\n"):
            number, _, name = line[1:].partition(b" ")
            if line.startswith(b"i"):
                names[int(number)] = name.decode()
            elif line.startswith(b"o"):
                places[name.decode()] = int(number)
        written = _written(names, places)
        return Graph(names, literals[:latches], literals[latches:], _enables(places, outputs), ands, written)

    @cached_property
    def number(self) -> list[tuple[int, int]]:
        """Of the input `mutant`, literals and bits."""
        bits = ((place, _bit_of_number(name)) for place, name in enumerate(self.inputs))
        return [(2 * (place + 1), bit) for place, bit in bits if bit is not None]

    @cached_property
    def zeros(self) -> set[int]:
        """Inputs, by their places, that read bits of a memory into which only zeros are ever written.

        By induction: all memories are 0 at first. Those and the latches that are 0 while all of them are remain.
        """
        reads, kept = set(self.written), set(range(len(self.latches)))
        while True:
            values = [_ZERO] + [_ZERO if place in reads else _ANY for place in range(len(self.inputs))]
            values += [_ZERO if latch in kept else _ANY for latch in range(len(self.latches))]
            for high, low in self.ands:
                values.append(_both(_value(values, high), _value(values, low)))
            before = (reads, kept)
            kept = {latch for latch in kept if _value(values, self.latches[latch]) == _ZERO}
            zeros = {output for output, literal in enumerate(self.outputs) if _value(values, literal) == _ZERO}
            reads = {place for place in reads if zeros.issuperset(self.written[place])}
            if (reads, kept) == before:
                return reads

    @cached_property
    def users(self) -> dict[int, list[int]]:
        """Of each variable the gates that use it."""
        found = defaultdict[int, list[int]](list)
        for gate, (high, low) in enumerate(self.ands, 1 + len(self.inputs) + len(self.latches)):
            found[high >> 1].append(gate)
            found[low >> 1].append(gate)
        return found

    def behind(self, latches: Collection[int]) -> set[int]:
        """Those latches, by their places, and all to which something leads from them."""
        first = 1 + len(self.inputs)
        kept = defaultdict[int, list[int]](list)
        for latch, literal in enumerate(self.latches):
            kept[literal >> 1].append(first + latch)
        seen, left = set[int](), [first + latch for latch in latches]
        while left:
            variable = left.pop()
            if variable not in seen:
                seen.add(variable)
                left += [*self.users[variable], *kept[variable]]
        return {latch for latch in range(len(self.latches)) if first + latch in seen}


class Miter:
    """Two copies of a graph with common inputs, gates that are equal made once; `data` is its AIGER file.

    Latches to which no difference comes are common, too.
    """

    def __init__(self, graph: Graph, numbers: tuple[int, int]) -> None:
        self._graph, self._numbers = graph, numbers
        one, other = self._copies(set())
        differing = [i for i, pair in enumerate(zip(one[0], other[0], strict=True)) if pair[0] != pair[1]]
        own = graph.behind(differing)
        one, other = self._copies(own)
        self._latches = one[0] + [other[0][latch] for latch in sorted(own)]
        self._differ = 0
        differences = [self._xor(*pair) for pair in zip(one[1], other[1], strict=True)]
        for difference, enable in zip(differences, graph.enables, strict=True):
            enabled = reduce(self._or, (one[1][place] for place in enable), 0 if enable else 1)
            self._differ = self._or(self._differ, self._and(difference, enabled))

    @property
    def data(self) -> bytes:
        gates = len(self._order)
        counts = (self._first_gate - 1 + gates, self._inputs, len(self._latches), 1, gates)
        lines = [b"aig %d %d %d %d %d" % counts, *(b"%d" % literal for literal in [*self._latches, self._differ])]
        return b"\n".join(lines) + b"\n" + b"".join(self._encoded())

    def _encoded(self) -> Iterator[bytes]:
        for gate, (high, low) in enumerate(self._order):
            for delta in (2 * (self._first_gate + gate) - high, high - low):
                while delta >= 128:
                    yield bytes([delta & 127 | 128])
                    delta >>= 7
                yield bytes([delta])

    def _copies(self, own: set[int]) -> list[tuple[list[int], list[int]]]:
        """Of both copies the literals of the next values and of the outputs; the second one has its own latches of
        these places."""
        chosen, latches = dict(self._graph.number), len(self._graph.latches)
        self._gates, self._order = dict[tuple[int, int], int](), list[tuple[int, int]]()
        self._inputs = len(self._graph.inputs) - len(chosen)
        self._first_gate = 1 + self._inputs + latches + len(own)
        begin, result = 1 + self._inputs, []
        second = {latch: begin + latches + place for place, latch in enumerate(sorted(own))}
        for number, places in zip(self._numbers, ({}, second), strict=True):
            literals, free = [0], 1
            for place in range(len(self._graph.inputs)):
                bit = chosen.get(2 * (place + 1))
                literals.append(2 * free if bit is None else number >> bit & 1)
                free += bit is None
                if place in self._graph.zeros:
                    literals[-1] = 0
            literals += [2 * places.get(latch, begin + latch) for latch in range(latches)]
            for high, low in self._graph.ands:
                literals.append(self._and(literals[high >> 1] ^ high & 1, literals[low >> 1] ^ low & 1))
            # Instances that are cut out have the number, too.
            watched = [0 if literal in chosen else literal for literal in self._graph.outputs]
            found = [literals[literal >> 1] ^ literal & 1 for literal in self._graph.latches + watched]
            result.append((found[:latches], found[latches:]))
        return result

    def _and(self, one: int, other: int) -> int:
        high, low = max(one, other), min(one, other)
        if low == 0 or high == low ^ 1:
            return 0
        if low == 1 or high == low:
            return high
        if (high, low) not in self._gates:
            self._gates[high, low] = 2 * (self._first_gate + len(self._order))
            self._order.append((high, low))
        return self._gates[high, low]

    def _or(self, one: int, other: int) -> int:
        return self._and(one ^ 1, other ^ 1) ^ 1

    def _xor(self, one: int, other: int) -> int:
        return self._or(self._and(one, other ^ 1), self._and(one ^ 1, other))


def _enables(places: Mapping[str, int], outputs: int) -> list[list[int]]:
    """`Graph.enables` of so many outputs, those with names by name."""
    result: list[list[int]] = [[] for _ in range(outputs)]
    for name, number in places.items():
        if port := MEMORY_PORT.fullmatch(name):
            memory, kind, bit = port.groups()
            enable = f"{memory}{kind[:2]}_EN"
            if kind == "WR_DATA":
                names = [f"{enable}[{bit}]" if bit else enable]
            else:
                names = [enable, *takewhile(places.__contains__, (f"{enable}[{i}]" for i in count()))]
        elif port := BUS_PORT.fullmatch(name):
            names = [f"{port[1]}valid"]
        else:
            continue
        result[number] = [places[each] for each in names if each in places]
    return result


_ZERO, _ONE, _ANY = 0, 1, 2
"""What is known of a bit."""


def _value(values: Sequence[int], literal: int) -> int:
    value = values[literal >> 1]
    return value if value == _ANY else value ^ literal & 1


def _both(one: int, other: int) -> int:
    if _ZERO in (one, other):
        return _ZERO
    return _ONE if one == other == _ONE else _ANY


def _written(inputs: Sequence[str], places: Mapping[str, int]) -> dict[int, list[int]]:
    """`Graph.written` of inputs and outputs with names: the words of a memory's ports lie one after the other."""
    memories = defaultdict[str, dict[str, dict[int, int]]](lambda: defaultdict(dict))
    for name, place in [*places.items(), *((name, place) for place, name in enumerate(inputs))]:
        if port := MEMORY_BIT.fullmatch(name):
            memories[port[1]][port[2]][int(port[3] or 0)] = place
    result: dict[int, list[int]] = {}
    for ports in memories.values():
        width, data = len(ports["RD_DATA"]) // max(len(ports["RD_EN"]), 1), ports["WR_DATA"]
        if width and data and len(data) % width == 0:
            resets = [*ports["RD_ARST"].values(), *ports["RD_SRST"].values()]
            for bit, place in ports["RD_DATA"].items():
                result[place] = resets + [output for number, output in data.items() if (number - bit) % width == 0]
    return result


def _bit_of_number(name: str) -> int | None:
    """Of the input `mutant`, which bit an input is; None for other inputs."""
    if name.partition("[")[0] != "mutant":
        return None
    return int(name[7:-1]) if "[" in name else 0


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
        texts = re.split(r"(?m)^(?=module )", verilog)[1:]
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
        users = {unit.replace(QUEUE, UNIT) for unit in held if unit.endswith(QUEUE)}
        return {self._part(TOP, self._inside[TOP] - held - users - stores)}

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

"""And-inverter graphs of modules, read from AIGER, and the miter of two copies of one.

References
----------
A. Biere, The AIGER And-Inverter Graph (AIG) format, version 20071012.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, reduce
from itertools import count, takewhile

MEMORY_PORT = re.compile(r"(.*\.)(RD_ADDR|WR_ADDR|WR_DATA)(?:\[(\d+)\])?")
"""Names of outputs to a memory that is cut out: without the port's enable an address has no effect, without its own one
a bit that is written."""

MEMORY_BIT = re.compile(r"(.*\.)(RD_DATA|RD_EN|RD_ARST|RD_SRST|WR_DATA)(?:\[(\d+)\])?")
"""Names of what is read from such a memory and written to it, of the enables of reading and of its resets."""

BUS_PORT = re.compile(r"([a-z]+_(?:aw|ar|w|r|b))(?!valid|ready)[a-z]+(?:\[\d+\])?")
"""Names of what the machine offers on a channel of AXI, which has no meaning without the channel's valid."""


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
        graph = Graph(names, literals[:latches], literals[latches:], _enables(places, outputs), ands, written)
        return graph._held(_asked(names, places, graph.outputs))

    def _held(self, asked: Sequence[tuple[int, Sequence[int]]]) -> Graph:
        """With latches that hold what memories read, as of each pair inputs change only in the cycle after one in which
        the output is 1; both by their places."""
        first, bits = 1 + len(self.inputs), [(enable, bit) for enable, bits in asked for bit in bits]
        latches = len(self.latches) + len(asked) + len(bits)
        flags = {enable: 2 * (first + len(self.latches) + i) for i, (enable, _) in enumerate(asked)}
        gates, value = list[tuple[int, int]](), dict[int, int]()
        for number, (enable, bit) in enumerate(bits):
            held = 2 * (first + len(self.latches) + len(asked) + number)
            begin = 2 * (first + latches + len(gates))
            gates += [(flags[enable], 2 * (bit + 1)), (held, flags[enable] ^ 1), (begin + 3, begin + 1)]
            value[2 * (bit + 1)] = begin + 5
        moved = 2 * (latches - len(self.latches) + len(gates))

        def now(literal: int) -> int:
            after = literal >= 2 * (first + len(self.latches))
            return value.get(literal & ~1, literal & ~1) + moved * after ^ literal & 1

        follows = [now(literal) for literal in self.latches]
        follows += [now(self.outputs[enable]) for enable, _ in asked]
        follows += [value[2 * (bit + 1)] for _, bit in bits]
        ands = [*gates, *((now(high), now(low)) for high, low in self.ands)]
        outputs = [now(literal) for literal in self.outputs]
        return Graph(self.inputs, follows, outputs, self.enables, ands, self.written)

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


def _asked(inputs: Sequence[str], places: Mapping[str, int], outputs: Sequence[int]) -> list[tuple[int, Sequence[int]]]:
    """Of each port of a memory that answers a cycle after it is asked, and is never reset, the output that asks and the
    inputs of its answer; what is asked always is left out."""
    result, constants = list[tuple[int, Sequence[int]]](), (0, 1)
    for ports in _ports(inputs, places).values():
        resets = [*ports["RD_ARST"].values(), *ports["RD_SRST"].values()]
        data, width = ports["RD_DATA"], len(ports["RD_DATA"]) // max(len(ports["RD_EN"]), 1)
        for port, enable in ports["RD_EN"].items():
            if outputs[enable] not in constants and not any(outputs[each] for each in resets):
                result.append((enable, [data[bit] for bit in range(port * width, (port + 1) * width) if bit in data]))
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
    result: dict[int, list[int]] = {}
    for ports in _ports(inputs, places).values():
        width, data = len(ports["RD_DATA"]) // max(len(ports["RD_EN"]), 1), ports["WR_DATA"]
        if width and data and len(data) % width == 0:
            resets = [*ports["RD_ARST"].values(), *ports["RD_SRST"].values()]
            for bit, place in ports["RD_DATA"].items():
                result[place] = resets + [output for number, output in data.items() if (number - bit) % width == 0]
    return result


def _ports(inputs: Sequence[str], places: Mapping[str, int]) -> Mapping[str, dict[str, dict[int, int]]]:
    """Of each memory that is cut out the places of each kind of `MEMORY_BIT`, by bits."""
    found = defaultdict[str, dict[str, dict[int, int]]](lambda: defaultdict(dict))
    for name, place in [*places.items(), *((name, place) for place, name in enumerate(inputs))]:
        if port := MEMORY_BIT.fullmatch(name):
            found[port[1]][port[2]][int(port[3] or 0)] = place
    return found


def _bit_of_number(name: str) -> int | None:
    """Of the input `mutant`, which bit an input is; None for other inputs."""
    if name.partition("[")[0] != "mutant":
        return None
    return int(name[7:-1]) if "[" in name else 0

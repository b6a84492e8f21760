"""Mutants that no output can depend on: bits of a netlist without a path to an output, through registers and memories.

A path is a dependency of a bit of a cell's output on a bit of its inputs: the same one for bitwise operators, registers
and memories' data, lower ones for sums and products, all others for what is not named here. Without a path no stimulus
and no state tells the mutant from the machine.
"""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from rtl.verilog import TOP
from support.mutants.netlist_mutants import READ, NetlistMutant
from support.rtl.yosys import run_yosys

MONITOR, MONITORS = "_monitor", "protocol"
"""End of the names of modules that watch a bus, and their output: they are no part of the machine."""

BITWISE = ("$and", "$or", "$xor", "$xnor", "$not", "$pos")
FROM_BELOW = ("$add", "$sub", "$mul", "$neg")

Json: TypeAlias = dict[str, Any]


class Pin(NamedTuple):
    """One bit of a port of a cell."""

    cell: str
    port: str
    bit: int


def unobservable(verilog: str, mutants: Sequence[NetlistMutant]) -> set[int]:
    """Numbers of those whose place has no path to an output in any instance of their module."""
    steps = [*READ, "write_json modules.json", "flatten -noscopeinfo", "write_json flat.json"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "machine.v").write_text(verilog, encoding="utf-8")
        done = run_yosys("\n".join(steps), folder)
        assert done.returncode == 0, done.stderr[-2000:]
        modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))["modules"]
        flat = json.loads((folder / "flat.json").read_text(encoding="utf-8"))["modules"][TOP]
    paths: dict[str, list[tuple[str, ...]]] = defaultdict(list)
    for module, path in _instances(modules, TOP, ()):
        paths[module].append(path)
    reach, unseen = Reach(flat), set[int]()
    for mutant in mutants:
        module, name = (mutant.options[key].removeprefix("\\") for key in ("module", "cell"))
        watches = modules[module]["cells"].get(name, {"type": ""})["type"].endswith(MONITOR)
        if watches or not any(reach.observes(mutant, path) for path in paths[module]):
            unseen.add(mutant.number)
    return unseen


def _instances(modules: Json, module: str, path: tuple[str, ...]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Each instance of each module: the module's name, and the names of the cells that lead to it."""
    yield module, path
    for name, cell in modules[module]["cells"].items():
        if cell["type"] in modules:
            yield from _instances(modules, cell["type"], (*path, name))


class Reach:
    """The pins of a flat netlist (yosys's JSON of a module after `proc`) that have a path to an output."""

    def __init__(self, module: Json) -> None:
        self._cells: dict[str, Json] = module["cells"]
        self._nets: dict[str, Json] = module["netnames"]
        self._drivers: dict[int | str, Pin] = {}
        self._writes: dict[str, list[str]] = defaultdict(list)
        for name, cell in self._cells.items():
            for port, direction in cell["port_directions"].items():
                if direction == "output":
                    self._drivers |= {net: Pin(name, port, i) for i, net in enumerate(cell["connections"][port])}
            if cell["type"].startswith("$memwr"):
                self._writes[cell["parameters"]["MEMID"]].append(name)
        self._found: set[Pin] = set()
        ports = (port for name, port in module["ports"].items() if name != MONITORS)
        self._search([net for port in ports if port["direction"] == "output" for net in port["bits"]])

    def observes(self, mutant: NetlistMutant, path: tuple[str, ...]) -> bool:
        """Whether some output may depend on the mutated bit in this instance of its module."""
        name, bit = mutant.options["cell"].removeprefix("\\"), int(mutant.options["portbit"])
        flat = ".".join((*path, name)) if name[0] != "$" or not path else "$flatten\\" + ".\\".join(path) + "." + name
        if flat in self._cells:
            return Pin(flat, mutant.options["port"].removeprefix("\\"), bit) in self._found
        if "wire" not in mutant.options:
            return True
        wire = ".".join((*path, mutant.options["wire"].removeprefix("\\")))
        net = self._nets[wire]["bits"][int(mutant.options["wirebit"])]
        return net in self._drivers and self._drivers[net] in self._found

    def _search(self, nets: list[int | str]) -> None:
        while nets:
            driver = self._drivers.get(nets.pop())
            if driver is None or driver in self._found:
                continue
            self._found.add(driver)
            for pin in self._causes(driver):
                if pin not in self._found:
                    self._found.add(pin)
                    nets.append(self._cells[pin.cell]["connections"][pin.port][pin.bit])

    def _causes(self, output: Pin) -> Iterator[Pin]:
        """Bits of inputs that a bit of an output depends on; of a memory's data, those of its writes, too."""
        cell, bit = self._cells[output.cell], output.bit
        widths = {
            port: len(cell["connections"][port]) for port, side in cell["port_directions"].items() if side == "input"
        }
        kind, data = cell["type"], {port: range(width) for port, width in widths.items()}
        if kind in BITWISE:
            data = {port: range(min(bit, width - 1), min(bit + 1, width)) for port, width in widths.items()}
        elif kind in FROM_BELOW:
            data = {port: range(min(bit + 1, width)) for port, width in widths.items()}
        elif kind == "$dff":
            data["D"] = range(bit, bit + 1)
        elif kind in ("$mux", "$pmux"):
            data |= {"A": range(bit, bit + 1), "B": range(bit, widths["B"], widths["A"])}
        for port, bits in data.items():
            yield from (Pin(output.cell, port, i) for i in bits)
        if kind.startswith("$memrd"):
            for name in self._writes[cell["parameters"]["MEMID"]]:
                ports = self._cells[name]["connections"]
                yield from (Pin(name, port, bit) for port in ("DATA", "EN"))
                yield from (Pin(name, port, i) for port in ("ADDR", "CLK") for i in range(len(ports[port])))

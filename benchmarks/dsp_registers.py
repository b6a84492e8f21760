"""Registers behind multipliers move into the DSP block, which yosys 0.23 does for other parts, not for ECP5."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

OUTPUT_REGISTER = {
    "REG_OUTPUT_CLK": "CLK0", "REG_OUTPUT_CE": "CE0", "REG_OUTPUT_RST": "RST0", "RESETMODE": "SYNC", "GSR": "DISABLED",
}  # fmt: skip
"""Parameters of a MULT18X18D whose product is in a register (Lattice FPGA-TN-02205, sysDSP of ECP5)."""


def absorb_registers(module: dict[str, Any]) -> int:
    """Give each MULT18X18D its output register, if that is all its product goes to; return how many flip-flops went.

    A product stays as it is if one of its bits has another user, or a flip-flop with enable, reset, falling edge or
    initial value 1.

    Parameters
    ----------
    module : dict
        A flat module of yosys's JSON after `synth_ecp5`; changed in place.
    """
    cells, sinks = module["cells"], _sinks(module)
    absorbed = 0
    for cell in [cell for cell in cells.values() if cell["type"] == "MULT18X18D"]:
        used = [pin for pin, side in cell["port_directions"].items() if side == "output" and sinks[_bit(cell, pin)]]
        registers = {pin: sink for pin in used if (sink := _plain_register(cells, sinks[_bit(cell, pin)]))}
        clocks = {_bit(cells[name], "CLK") for name in registers.values()}
        if len(registers) < len(used) or len(clocks) != 1:
            continue
        for pin, name in registers.items():
            cell["connections"][pin] = cells.pop(name)["connections"]["Q"]
        cell["parameters"] = {**cell["parameters"], **OUTPUT_REGISTER}
        cell["connections"] |= {"CLK0": [clocks.pop()], "CE0": ["1"], "RST0": ["0"]}
        cell["port_directions"] |= dict.fromkeys(("CLK0", "CE0", "RST0"), "input")
        absorbed += len(registers)
    return absorbed


def _bit(cell: dict[str, Any], pin: str) -> int | str:
    """What is connected to a pin of one bit."""
    (bit,) = cell["connections"][pin]
    return bit


def _sinks(module: dict[str, Any]) -> dict[int | str, list[tuple[str, str]]]:
    """For each bit the cells and pins that it goes to; an output of the module has no name of a cell."""
    sinks = defaultdict(list)
    for name, cell in module["cells"].items():
        for pin, bits in cell["connections"].items():
            for bit in bits if cell["port_directions"][pin] == "input" else ():
                sinks[bit].append((name, pin))
    for port in module["ports"].values():
        for bit in port["bits"] if port["direction"] == "output" else ():
            sinks[bit].append(("", ""))
    return sinks


def _plain_register(cells: dict[str, Any], sinks: list[tuple[str, str]]) -> str | None:
    """The only sink, if it is the data input of a flip-flop that takes it at each rising edge and starts with 0."""
    (name, pin), *others = sinks
    if others or pin != "DI" or cells[name]["type"] != "TRELLIS_FF":
        return None
    cell = cells[name]
    connections, parameters = cell["connections"], cell["parameters"]
    always = "CE" not in connections and parameters["CEMUX"].strip() == "1" and parameters["CLKMUX"] == "CLK"
    plain = always and connections.get("LSR", ["0"]) == ["0"] and parameters["REGSET"] == "RESET"
    return name if plain else None

"""External memory: where values and constants lie."""

from __future__ import annotations

from dataclasses import dataclass

from accel.machine.config import ArchConfig
from accel.machine.layout import Hwc, pack, tensor_bytes
from compiler.lower.geometry import Place
from compiler.lower.layers import Network
from compiler.plan.plan import Plan

ALIGNMENT_BYTES = 64
"""Alignment of values and constants in external memory."""


def align(value: int, alignment: int = ALIGNMENT_BYTES) -> int:
    """The next multiple of `alignment`."""
    return -(-value // alignment) * alignment


@dataclass(frozen=True)
class Home:
    """Where a value lies in external memory: its place in a tensor of `shape` at byte `address`."""

    address: int
    shape: Hwc
    place: Place


class ExternalMemory:
    """Addresses of values, and constants behind them, which grow.

    Attributes
    ----------
    addresses : dict of str to int
        Of all values that external memory holds.
    constants_address : int
    constants : bytearray
    """

    def __init__(self, network: Network, plan: Plan, config: ArchConfig) -> None:
        self._network = network
        self.addresses, self.constants_address = _place_values(network, plan)
        self.constants = bytearray()
        self._constant_addresses: dict[bytes, int] = {}
        for name, value in network.constants.items():
            self.addresses[name] = self.constant(pack(value, config.rows))

    def constant(self, data: bytes) -> int:
        """Place constant bytes, unless equal ones are there; their address."""
        if data not in self._constant_addresses:
            self._constant_addresses[data] = self.constants_address + len(self.constants)
            self.constants += data + bytes(-len(data) % ALIGNMENT_BYTES)
        return self._constant_addresses[data]

    def holds(self, value: str) -> bool:
        """Whether a value, or what it is a part of, lies in external memory."""
        return self._network.place(value).whole in self.addresses

    def home(self, value: str) -> Home:
        """Where a value lies."""
        place = self._network.place(value)
        return Home(self.addresses[place.whole], self._network.shapes[place.whole], place)


def _place_values(network: Network, plan: Plan) -> tuple[dict[str, int], int]:
    """Addresses of all values that external memory holds, and of what follows them."""
    address, addresses = 0, {}
    given = (name for name in network.inputs if name not in network.constants)
    boundary = (*given, *(network.aliases.get(name, name) for name in network.outputs))
    made = (network.place(layer.output).whole for layer in network.layers)
    kept = {*boundary, *network.gathered}
    between = {network.layers[index].output for index in plan.pairs}
    for value in dict.fromkeys((*boundary, *made)):
        if value in kept or value not in (plan.residents.keys() | between):
            addresses[value] = address
            address = align(address + tensor_bytes((1, *network.shapes[value])))
    aliases = {name: addresses[value] for name, value in network.aliases.items() if value in addresses}
    return addresses | aliases, address

"""External memory: where values and constants lie."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

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


class Constants:
    """Bytes that a program brings along, which grow; equal ones lie there once.

    Attributes
    ----------
    address : int
        Of the first.
    data : bytearray
    """

    def __init__(self, address: int) -> None:
        self.address, self.data = address, bytearray()
        self._addresses: dict[bytes, int] = {}

    def place(self, data: bytes) -> int:
        """The address of `data`, after placing it unless equal bytes are there."""
        if data not in self._addresses:
            self._addresses[data] = self.address + len(self.data)
            self.data += data + bytes(-len(data) % ALIGNMENT_BYTES)
        return self._addresses[data]


class ExternalMemory:
    """Where the values of a network and its constants lie.

    Parameters
    ----------
    network : Network
    addresses : mapping of str to int
        Those of `place_values`.
    constants : Constants
        Of the whole program.
    rows : int
        Channels per chunk.

    Attributes
    ----------
    addresses : dict of str to int
        Of all values that external memory holds.
    """

    def __init__(self, network: Network, addresses: Mapping[str, int], constants: Constants, rows: int) -> None:
        self._network, self._constants = network, constants
        self._homes: dict[str, Home] = {}
        self.addresses = dict(addresses)
        for name, value in network.constants.items():
            self.addresses[name] = self.constant(pack(value, rows))

    def constant(self, data: bytes) -> int:
        """Place constant bytes, unless equal ones are there; their address."""
        return self._constants.place(data)

    def holds(self, value: str) -> bool:
        """Whether a value, or what it is a part of, lies in external memory."""
        return self._network.place(value).whole in self.addresses

    def home(self, value: str) -> Home:
        """Where a value lies."""
        if value not in self._homes:
            place = self._network.place(value)
            self._homes[value] = Home(self.addresses[place.whole], self._network.shapes[place.whole], place)
        return self._homes[value]


class Placement(NamedTuple):
    """Addresses of the values of each network, and of what follows all of them."""

    addresses: tuple[Mapping[str, int], ...]
    end: int


def place_values(networks: Iterable[tuple[Network, Plan]]) -> Placement:
    """Give every value that external memory holds an address; what one network makes for a later one has one address.

    Parameters
    ----------
    networks : iterable of (Network, Plan)
        Those of a program's machine segments, in order.
    """
    end, known, result = 0, dict[str, int](), []
    for network, plan in networks:
        given = [name for name in network.inputs if name not in network.constants]
        addresses = {name: known[name] for name in given if name in known}
        boundary = (*given, *(network.aliases.get(name, name) for name in network.outputs))
        made = (network.place(layer.output).whole for layer in network.layers)
        kept = {*boundary, *network.gathered}
        for value in dict.fromkeys((*boundary, *made)):
            if value not in addresses and (value in kept or value not in (plan.residents.keys() | plan.between)):
                addresses[value] = end
                end = align(end + tensor_bytes((1, *network.shapes[value])))
        same = network.aliases | {name: value for name, (value, _) in network.unpacked.items()}
        addresses |= {name: addresses[value] for name, value in same.items() if value in addresses}
        known |= addresses
        result.append(addresses)
    return Placement(tuple(result), end)

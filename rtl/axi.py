"""AXI4 and AXI4-Lite bus signatures, seen from the manager, with the names of the AMBA specification.

References
----------
Arm, AMBA AXI and ACE Protocol Specification, IHI 0022, 2011, chapter A2 (signals) and B1 (AXI4-Lite).
"""

from __future__ import annotations

from amaranth.hdl import Cat, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from accel.machine.registers import IMAGE_ALIGNMENT

ADDRESS_BITS = 32
"""Address in the program's image: what instructions hold."""

BUS_ADDRESS_BITS = 64
PAGE_BITS = BUS_ADDRESS_BITS - (IMAGE_ALIGNMENT - 1).bit_length()
"""Number of the page (`IMAGE_ALIGNMENT` bytes) at which the image begins."""

BURST_INCREMENTING = 1
CACHE_MODIFIABLE_BUFFERABLE = 0b0011

BURST = data.StructLayout({"address": ADDRESS_BITS, "length": 8, "final": 1})
"""One burst: address of its first beat in the image, beats - 1, and whether it is the last one of its instruction."""


def _address_channel(prefix: str) -> dict[str, wiring.Member]:
    members = {
        "id": Out(1),
        "addr": Out(BUS_ADDRESS_BITS),
        "len": Out(8),
        "size": Out(3),
        "burst": Out(2),
        "lock": Out(1),
        "cache": Out(4),
        "prot": Out(3),
        "valid": Out(1),
        "ready": In(1),
    }
    return {prefix + name: member for name, member in members.items()}


class Axi4Read(wiring.Signature):
    """Read channels (AR, R) of an AXI4 manager whose beats hold `bus_bytes` bytes."""

    def __init__(self, bus_bytes: int):
        super().__init__(
            {
                **_address_channel("ar"),
                "rid": In(1),
                "rdata": In(8 * bus_bytes),
                "rresp": In(2),
                "rlast": In(1),
                "rvalid": In(1),
                "rready": Out(1),
            }
        )


class Axi4Write(wiring.Signature):
    """Write channels (AW, W, B) of an AXI4 manager whose beats hold `bus_bytes` bytes."""

    def __init__(self, bus_bytes: int):
        super().__init__(
            {
                **_address_channel("aw"),
                "wdata": Out(8 * bus_bytes),
                "wstrb": Out(bus_bytes),
                "wlast": Out(1),
                "wvalid": Out(1),
                "wready": In(1),
                "bid": In(1),
                "bresp": In(2),
                "bvalid": In(1),
                "bready": Out(1),
            }
        )


class Axi4Lite(wiring.Signature):
    """A 32-bit AXI4-Lite bus with `address_bits` bits of byte address."""

    def __init__(self, address_bits: int):
        super().__init__(
            {
                "awaddr": Out(address_bits),
                "awprot": Out(3),
                "awvalid": Out(1),
                "awready": In(1),
                "wdata": Out(32),
                "wstrb": Out(4),
                "wvalid": Out(1),
                "wready": In(1),
                "bresp": In(2),
                "bvalid": In(1),
                "bready": Out(1),
                "araddr": Out(address_bits),
                "arprot": Out(3),
                "arvalid": Out(1),
                "arready": In(1),
                "rdata": In(32),
                "rresp": In(2),
                "rvalid": In(1),
                "rready": Out(1),
            }
        )


def drive_address(bus: wiring.PureInterface, prefix: str, bus_bytes: int, page: Value, burst: data.View) -> list:
    """Statements that drive the payload of address channel `prefix` ("ar" or "aw") of `bus` from one `BURST`.

    `page` is where the image begins; the address is modulo 2^64.
    """
    offset_bits = BUS_ADDRESS_BITS - PAGE_BITS
    values = {
        "addr": Cat(burst.address[:offset_bits], (page + burst.address[offset_bits:])[:PAGE_BITS]),
        "len": burst.length,
        "size": bus_bytes.bit_length() - 1,
        "burst": BURST_INCREMENTING,
        "cache": CACHE_MODIFIABLE_BUFFERABLE,
    }
    return [getattr(bus, prefix + name).eq(value) for name, value in values.items()]

"""A component under all inputs, beside the logic that watches it."""

from __future__ import annotations

from amaranth.hdl import Elaboratable, Module, Value
from amaranth.lib.wiring import Component, In


class Harness(Elaboratable):
    """The base of harnesses: `dut` with free inputs; `watch` adds assumptions, registers and assertions.

    The reset is an input, too: it may come at any time, for `dut` and for what watches it.
    """

    def __init__(self, dut: Component) -> None:
        self.dut = dut

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.dut = self.dut
        self.watch(m)
        return m

    def watch(self, m: Module) -> None:
        raise NotImplementedError

    def ports(self) -> dict[str, tuple[Value, None]]:
        """The inputs of `dut` by name."""
        members = self.dut.signature.flatten(self.dut)
        return {
            "_".join(map(str, path)): (Value.cast(value), None) for path, member, value in members if member.flow is In
        }

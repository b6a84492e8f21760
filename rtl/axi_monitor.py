"""Assertions on the buses of the machine, part of its verification netlist only: every bench sees them.

References
----------
Arm, AMBA AXI and ACE Protocol Specification, IHI 0022, 2011, A3.2.1 (handshake), A3.4.1 (bursts), A3.4.3 (strobes).
"""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out

from accel.errors import DivergenceError
from accel.machine.config import ArchConfig
from accel.machine.latencies import BURST_BOUNDARY_BYTES
from rtl.axi import BURST_INCREMENTING

VIOLATIONS = (
    "an offer changes or is taken back before it is accepted",
    "a burst is misaligned, of another size or kind, or crosses 4 KiB",
    "more bursts are open than outstanding_bursts",
    "data without a burst, or a burst that ends too early or too late",
    "strobes with a gap",
    "a response that nobody asked for",
)
"""What each bit of the port `protocol` means, from bit 0."""
UNSTABLE, BURST, OPEN, DATA, STROBES, RESPONSE = range(len(VIOLATIONS))


def protocol_error(bits: int) -> DivergenceError:
    """The error for a machine whose port `protocol` shows `bits`."""
    first = (bits & -bits).bit_length() - 1
    return DivergenceError(
        f"the RTL must obey the AXI protocol, got a violation: {VIOLATIONS[first % len(VIOLATIONS)]}"
    )


class AxiMonitor(wiring.Component):
    """Watches one bus of the machine, a master's or the registers'.

    Parameters
    ----------
    config : ArchConfig
    signature : Axi4Read, Axi4Write or Axi4Lite

    Members
    -------
    bus : In
        All signals of the bus as they are seen.
    violations : Out
        Bits of `VIOLATIONS`, sticky.
    """

    def __init__(self, config: ArchConfig, signature: wiring.Signature):
        self._config = config
        self._channels = {name.removesuffix("valid") for name in signature.members if name.endswith("valid")}
        seen = wiring.Signature({name: Out(member.shape) for name, member in signature.members.items()})
        super().__init__({"bus": In(seen), "violations": Out(len(VIOLATIONS))})

    def watch(self, bus: wiring.PureInterface) -> list:
        """Statements that show it `bus`."""
        return [getattr(self.bus, name).eq(getattr(bus, name)) for name in self.bus.signature.members]

    def elaborate(self, platform: object) -> Module:
        m = Module()
        lite = not hasattr(self.bus, "arlen") and not hasattr(self.bus, "awlen")
        found = Signal(len(VIOLATIONS))
        m.d.sync += self.violations.eq(self.violations | found)
        driven = ("b", "r") if lite else ("ar", "aw", "w")
        channels = [name for name in driven if name in self._channels]
        m.d.comb += found[UNSTABLE].eq(Cat(self._unstable(m, name) for name in channels).any())
        if lite:
            m.d.comb += found[RESPONSE].eq(self._unasked(m, "r", ("ar",)) | self._unasked(m, "b", ("aw", "w")))
            return m
        address, ended = ("aw", "b") if "aw" in self._channels else ("ar", "r")
        last = self._moves(ended) & (self.bus.rlast if ended == "r" else 1)
        m.d.comb += [
            found[BURST].eq(self._bad_burst(address)),
            found[OPEN].eq(self._too_many(m, self._moves(address), last)),
        ]
        if address == "aw":
            m.d.comb += [found[DATA].eq(self._bad_data(m)), found[STROBES].eq(self._gap())]
        return m

    def _moves(self, channel: str) -> Value:
        """A transfer on the channel."""
        return getattr(self.bus, f"{channel}valid") & getattr(self.bus, f"{channel}ready")

    def _payload(self, channel: str) -> Value:
        names = [name for name in self.bus.signature.members if name.startswith(channel)]
        if channel in ("r", "w", "b"):
            names = [name for name in names if name[len(channel) :] in ("data", "strb", "last", "resp")]
        handshake = (f"{channel}valid", f"{channel}ready")
        return Cat(Value.cast(getattr(self.bus, name)) for name in names if name not in handshake)

    def _unstable(self, m: Module, channel: str) -> Value:
        valid, payload = getattr(self.bus, f"{channel}valid"), self._payload(channel)
        waits = Signal(name=f"{channel}_waits")
        before = Signal(len(payload), name=f"{channel}_before")
        m.d.sync += [waits.eq(valid & ~getattr(self.bus, f"{channel}ready")), before.eq(payload)]
        return waits & (~valid | (payload != before))

    def _unasked(self, m: Module, channel: str, requests: tuple[str, ...]) -> Value:
        """A response that does not follow a transfer on each of the channels `requests`, all in earlier cycles."""
        missing = []
        for request in requests:
            asked = Signal(2, name=f"{request}_asked")
            m.d.sync += asked.eq(asked + self._moves(request) - self._moves(channel))
            missing.append(asked == 0)
        return getattr(self.bus, f"{channel}valid") & Cat(missing).any()

    def _bad_burst(self, channel: str) -> Value:
        address, length, size, kind = (
            getattr(self.bus, f"{channel}{name}") for name in ("addr", "len", "size", "burst")
        )
        beat = self._config.bus_bytes
        end = (address % BURST_BOUNDARY_BYTES) + (length + 1) * beat
        shape = (size != beat.bit_length() - 1) | (kind != BURST_INCREMENTING)
        bad = (address % beat != 0) | (end > BURST_BOUNDARY_BYTES) | shape
        return getattr(self.bus, f"{channel}valid") & bad

    def _too_many(self, m: Module, begins: Value, ends: Value) -> Value:
        bursts = Signal(8)
        m.d.sync += bursts.eq(bursts + begins - ends)
        return begins & (bursts >= self._config.outstanding_bursts)

    def _bad_data(self, m: Module) -> Value:
        """Data belong to the bursts in the order in which they were offered, from the cycle after that on."""
        bus, offered, beats = self.bus, Signal(name="offered"), Signal(8, name="beats")
        m.submodules.lengths = lengths = SyncFIFO(width=8, depth=self._config.outstanding_bursts + 1)
        m.d.sync += offered.eq(bus.awvalid & ~bus.awready)
        moves, last = self._moves("w"), beats == lengths.r_data
        m.d.comb += [
            lengths.w_data.eq(bus.awlen),
            lengths.w_en.eq(bus.awvalid & ~offered),
            lengths.r_en.eq(moves & bus.wlast),
        ]
        with m.If(moves):
            m.d.sync += beats.eq((beats + 1).bit_select(0, 8) & ~bus.wlast.replicate(8))
        return bus.wvalid & (~lengths.r_rdy | (bus.wlast != last))

    def _gap(self) -> Value:
        """The strobes are not one run of ones; a burst that is abandoned has none."""
        strobes = self.bus.wstrb
        lowest = strobes & (-strobes)[: len(strobes)]
        return self.bus.wvalid & (((strobes + lowest)[: len(strobes)] & strobes) != 0)

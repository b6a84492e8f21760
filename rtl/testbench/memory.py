"""The external memory of docs/timing.md for Amaranth test benches, one object per bus."""

from __future__ import annotations

from collections import deque

import numpy as np
import numpy.typing as npt
from amaranth.sim import SimulatorContext

RESPONSE_OKAY = 0


class ReadMemory:
    """Answers one AXI4 read bus: call `drive`, look at the settled signals, call `sample`, then tick.

    Parameters
    ----------
    bus : interface with the signature Axi4Read
    memory : ndarray of uint8
    latency_cycles : int
        Address handshake to first beat.
    stalls : numpy Generator, optional
        Stall address and data at random.
    base : int
        Bus address of the memory's first byte.
    """

    def __init__(
        self,
        bus,
        memory: npt.NDArray[np.uint8],
        latency_cycles: int,
        stalls: np.random.Generator | None = None,
        base: int = 0,
    ):
        self._bus, self._memory, self._latency, self._stalls = bus, memory, latency_cycles, stalls
        self._base = base
        self._beat_bytes = len(bus.rdata) // 8
        self._beats: deque[tuple[int, bool, int]] = deque()
        self._next, self._offered = 0, False
        self.bursts: list[tuple[int, int, int]] = []
        """(cycle, address, beats) of each address handshake."""
        self.response = RESPONSE_OKAY
        """Response code of the beats that are offered from now on."""

    def drive(self, ctx: SimulatorContext, now: int) -> None:
        """Set the inputs of cycle `now`."""
        bus = self._bus
        ctx.set(bus.arready, not _stall(self._stalls))
        due = self._beats and now >= max(self._next, self._beats[0][2])
        self._offered = self._offered or bool(due and not _stall(self._stalls))
        ctx.set(bus.rvalid, self._offered)
        if self._offered:
            address, last, _ = self._beats[0]
            beat = self._memory[address : address + self._beat_bytes]
            ctx.set(bus.rdata, int.from_bytes(beat.tobytes(), "little"))
            ctx.set(bus.rlast, last)
            ctx.set(bus.rresp, self.response)

    def sample(self, ctx: SimulatorContext, now: int) -> None:
        """Take note of the handshakes of cycle `now`."""
        bus = self._bus
        if ctx.get(bus.rvalid) and ctx.get(bus.rready):
            self._beats.popleft()
            self._next, self._offered = now + 1, False
        if ctx.get(bus.arvalid) and ctx.get(bus.arready):
            address, beats = ctx.get(bus.araddr) - self._base, ctx.get(bus.arlen) + 1
            self.bursts.append((now, address, beats))
            for i in range(beats):
                ready = now + self._latency if i == 0 else 0
                self._beats.append((address + i * self._beat_bytes, i == beats - 1, ready))


class WriteMemory:
    """Answers one AXI4 write bus, like `ReadMemory`; writes into `memory`."""

    def __init__(
        self,
        bus,
        memory: npt.NDArray[np.uint8],
        latency_cycles: int,
        stalls: np.random.Generator | None = None,
        base: int = 0,
    ):
        self._bus, self._memory, self._latency, self._stalls = bus, memory, latency_cycles, stalls
        self._base = base
        self._addresses: deque[tuple[int, bool]] = deque()
        self._data: deque[tuple[bytes, int, bool]] = deque()
        self._responses: deque[int] = deque()
        self._offered = False
        self.bursts: list[tuple[int, int, int]] = []
        """(cycle, address, beats) of each address handshake."""
        self.beats: list[int] = []
        """Cycle of each data handshake."""
        self.response = RESPONSE_OKAY

    def drive(self, ctx: SimulatorContext, now: int) -> None:
        """Set the inputs of cycle `now`; with stalls, an address is accepted only after data were offered."""
        bus = self._bus
        data_offered = self._stalls is None or ctx.get(bus.wvalid) or self._data
        ctx.set(bus.awready, bool(data_offered) and not _stall(self._stalls))
        ctx.set(bus.wready, not _stall(self._stalls))
        due = self._responses and now >= self._responses[0]
        self._offered = self._offered or bool(due and not _stall(self._stalls))
        ctx.set(bus.bvalid, self._offered)
        ctx.set(bus.bresp, self.response)

    def sample(self, ctx: SimulatorContext, now: int) -> None:
        """Take note of the handshakes of cycle `now`."""
        bus = self._bus
        width = len(bus.wstrb)
        if ctx.get(bus.bvalid) and ctx.get(bus.bready):
            self._responses.popleft()
            self._offered = False
        if ctx.get(bus.awvalid) and ctx.get(bus.awready):
            address, beats = ctx.get(bus.awaddr) - self._base, ctx.get(bus.awlen) + 1
            self.bursts.append((now, address, beats))
            self._addresses.extend((address + i * width, i == beats - 1) for i in range(beats))
        if ctx.get(bus.wvalid) and ctx.get(bus.wready):
            self.beats.append(now)
            self._data.append((ctx.get(bus.wdata).to_bytes(width, "little"), ctx.get(bus.wstrb), ctx.get(bus.wlast)))
        while self._data and self._addresses:
            (data, strobe, last), (address, expected) = self._data.popleft(), self._addresses.popleft()
            if last != expected:
                raise ValueError(f"wlast must be {expected} at {address:#x}, got {last}")
            for i in range(width):
                if strobe >> i & 1:
                    self._memory[address + i] = data[i]
            if last:
                self._responses.append(now + self._latency)


def _stall(stalls: np.random.Generator | None) -> bool:
    return stalls is not None and bool(stalls.integers(2))

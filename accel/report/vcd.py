"""Registers of the array as a value change dump for waveform viewers; one cycle is one nanosecond of the viewer.

References
----------
IEEE Std 1364-2005, section 18: value change dump files.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from accel.errors import InputError
from accel.machine.config import ArchConfig

SIGNALS = (("weight", "weights", 8), ("shadow", "shadows", 8), ("activation", "activations", 8), ("sum", "sums", 32))
"""Signals of a processing element: name, member of `sim.Snapshot`, bits."""


def dump(config: ArchConfig, snapshots: Sequence[Any]) -> bytes:
    """A scope ``array.row<r>.col<c>`` for each processing element, with two's complement signals.

    Parameters
    ----------
    config : ArchConfig
    snapshots : sequence of sim.Snapshot
        One or more consecutive cycles.

    Raises
    ------
    InputError
        There is no snapshot.
    """
    from vcd import VCDWriter

    if not snapshots:
        raise InputError("the window of cycles must lie in the run, got none of its cycles")
    buffer = io.StringIO()
    start = snapshots[0].cycle
    with VCDWriter(buffer, timescale="1 ns", comment=f"array of {config.name}", init_timestamp=start) as writer:
        places = [(r, c) for r in range(config.rows) for c in range(config.cols)]
        variables = {
            (member, r, c): writer.register_var(
                f"array.row{r}.col{c}", name, "wire", size=bits, init=int(getattr(snapshots[0], member)[r, c])
            )
            for r, c in places
            for name, member, bits in SIGNALS
        }
        before = snapshots[0]
        for snapshot in snapshots[1:]:
            for _, member, _ in SIGNALS:
                values, old = getattr(snapshot, member), getattr(before, member)
                for r, c in zip(*(values != old).nonzero(), strict=True):
                    writer.change(variables[member, int(r), int(c)], snapshot.cycle, int(values[r, c]))
            before = snapshot
        writer.close(before.cycle + 1)
    return buffer.getvalue().encode()

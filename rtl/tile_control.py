"""Control of EXEC and DEPTHWISE: issue to the weight sequencer, completion some cycles behind the last step."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring

from rtl.pipeline import delayed
from rtl.weight_sequencer import WeightSequencer


def drive_control(
    m: Module, control: wiring.PureInterface, weights: WeightSequencer, steps: wiring.Component, latency: int
) -> None:
    """Connect a unit's `UnitControl` with its sequencers.

    Parameters
    ----------
    m : Module
        Receives the logic.
    control : UnitControl
    weights : WeightSequencer
        Takes an instruction when its tokens are there.
    steps : Component
        Sequencer with the outputs `streaming` (an instruction's steps are under way), `last` (this step is its
        instruction's last), `signal` (the instruction's mask then, zero otherwise), and `outside` and `number` (the
        step uses a word that does not exist, the number of its instruction).
    latency : int
        Cycles from the last step to completion.
    """
    issue, in_flight = Signal(name="issue"), Signal(range(latency + 3), name="in_flight")
    issued = delayed(m, issue, 1, "issued", reset_less=False)
    queue, head = control.instruction, weights.head
    ending = delayed(m, Cat(steps.last, steps.signal), latency, "ending", reset_less=False)
    # A cycle behind those that find it: nothing is reported before the rules on the instruction's fields (`Legality`).
    outside = delayed(m, Cat(weights.outside, steps.outside), 1, "outside", reset_less=False)
    step_number = delayed(m, steps.number, 1, "step_number")
    weights_number = delayed(m, weights.instruction.number, 1, "weights_number")
    m.d.sync += [
        in_flight.eq(in_flight + issued - control.complete),
        control.fault.bounds.eq(outside.any()),
        control.fault.number.eq(Mux(outside[1], step_number, weights_number)),
    ]
    m.d.comb += [
        head.eq(queue.payload),
        issue.eq(queue.valid & weights.free & ~(head.wait & ~control.tokens).any()),
        queue.ready.eq(issue),
        weights.issue.eq(issue),
        control.occupied.eq(issue | ~weights.free | steps.streaming),
        control.busy.eq(control.occupied),
        Cat(control.complete, control.signal).eq(ending),
        control.idle.eq((in_flight == 0) & ~issued),
    ]

"""Both compiled test benches take the machine's numbers from Python, and see a burst that crosses a boundary."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from support.rtl.bench import small

from accel.errors import DivergenceError
from accel.machine.isa import Instruction, Opcode
from accel.machine.latencies import BURST_BOUNDARY_BYTES
from rtl.testbench import icarus, macros, verilator

pytestmark = pytest.mark.rtl
CONFIG = small(rows=1, cols=1, post_lanes=1, bus_bytes=4)
BYTES = 32
CODE = Instruction(Opcode.LOAD, {"dram_address": BYTES // 2, "row_bytes": BYTES, "row_words": BYTES}).encode()


@pytest.mark.parametrize("bench", [icarus, verilator], ids=["icarus", "verilator"])
def test_a_burst_that_crosses_a_boundary_is_a_violation(bench: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = np.zeros(4 * BYTES, np.uint8)
    assert bench.run(CONFIG, CODE, 2 * BYTES, memory, max_cycles=1000).error == 0
    monkeypatch.setattr(macros, "BURST_BOUNDARY_BYTES", BYTES)
    with pytest.raises(DivergenceError, match="the RTL must obey the AXI protocol, got a violation"):
        bench.run(CONFIG, CODE, 2 * BYTES, memory, max_cycles=1000)


def test_verilator_resets_a_powered_machine_once() -> None:
    """What one program leaves in the scratchpad is there for the next; cycles, stamps and counters begin anew."""
    memory = np.arange(4 * BYTES, dtype=np.uint8)
    store = Instruction(Opcode.STORE, {"dram_address": 0, "row_words": BYTES, "word_bytes": 1}).encode()
    load = Instruction(Opcode.LOAD, {"dram_address": BYTES, "row_bytes": BYTES, "row_words": BYTES, "word_bytes": 1})
    after_reset = verilator.run(CONFIG, store, 2 * BYTES, memory, max_cycles=1000)
    assert not after_reset.memory[:BYTES].any()
    with verilator.Powered(CONFIG) as machine:
        machine.run(load.encode(), 2 * BYTES, memory, max_cycles=1000)
        second = machine.run(store, 2 * BYTES, memory, max_cycles=1000)
    np.testing.assert_array_equal(second.memory[:BYTES], memory[BYTES : 2 * BYTES])
    assert (second.total_cycles, second.counters) == (after_reset.total_cycles, after_reset.counters)
    assert [list(x) for x in second.issue.values()] == [list(x) for x in after_reset.issue.values()]


@pytest.mark.parametrize("name", ["verilator_main.cpp", "icarus_main.v"])
def test_no_bench_types_the_boundary_itself(name: str) -> None:
    text = Path(macros.__file__).with_name(name).read_text(encoding="utf-8")
    assert "BURST_BOUNDARY_BYTES" in text
    assert str(BURST_BOUNDARY_BYTES) not in text

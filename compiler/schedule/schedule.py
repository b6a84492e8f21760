"""Steps in order, loads ahead of them: the program order of instructions.

A step is the smallest unit of work with its own loads. The loads of later steps are put before the work of earlier ones
as far as room and data allow, so that they run in the background; `compiler.schedule.synchronize` makes any such order
correct.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import partial

from accel.errors import CompileError, EncodingError
from accel.machine.config import TABLE_WORDS, ArchConfig
from accel.machine.isa import Instruction, Memory
from compiler.emit.steps import Load, Step
from compiler.schedule.block_cache import BlockCache
from compiler.schedule.synchronize import Synchronizer

LOOK_AHEAD_STEPS = 8


@dataclass
class Scheduler:
    """Turns steps and loads into a synchronised instruction list.

    Parameters
    ----------
    config : ArchConfig
    steps : list of Step
    loads : dict of key to Load
    names : list of str
        Layer names for error messages.
    """

    config: ArchConfig
    steps: list[Step]
    loads: dict[Hashable, Load]
    names: list[str]
    instruction_layers: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._synchronizer = Synchronizer(self.config)
        self._caches = {
            Memory.WBUF: BlockCache(self.config.wbuf_words),
            Memory.PARAM: BlockCache(self.config.param_rows),
            Memory.TABLE: BlockCache(TABLE_WORDS),
            Memory.TAPS: BlockCache(self.config.depthwise_words),
        }
        self._loaded: set[Hashable] = set()
        self._uses: dict[Hashable, list[int]] = {}
        for index, step in enumerate(self.steps):
            for key in step.needs:
                self._uses.setdefault(key, []).append(index)

    def run(self) -> list[Instruction]:
        """All instructions, waits and signals set; `instruction_layers` then tells each one's layer."""
        for index, step in enumerate(self.steps):
            for key in step.needs:
                if not self._present(key) and not self._load(key, index, index, index):
                    load = self.loads[key]
                    raise CompileError(
                        f"layer {self.names[step.layer]!r} needs {load.words} words of {load.memory.name} at once; "
                        f"choose a config with more"
                    )
            addresses = {key: self._address(key, index) for key in step.needs}
            self._emit(step.layer, partial(step.make, addresses))
            self._prefetch(index)
        return self._synchronizer.finish()

    def _prefetch(self, index: int) -> None:
        """Load what the next steps need, in their order, until something has to wait for step `index` or later."""
        budget = max(1, self.config.queue_depth // 2)
        for later in range(index + 1, min(index + 1 + LOOK_AHEAD_STEPS, len(self.steps))):
            for key in self.steps[later].needs:
                if self._present(key):
                    continue
                if budget == 0 or self.loads[key].earliest > index or not self._load(key, later, index + 1, index - 1):
                    return
                budget -= 1

    def _present(self, key: Hashable) -> bool:
        cache = self._caches.get(self.loads[key].memory)
        return key in self._loaded if cache is None else key in cache.blocks

    def _address(self, key: Hashable, step: int) -> int:
        cache = self._caches.get(self.loads[key].memory)
        return 0 if cache is None else cache.use(key, step)

    def _load(self, key: Hashable, user: int, now: int, settled: int) -> bool:
        """Emit a load for step `user`; False if there is no room among blocks last used by step `settled` or before."""
        load = self.loads[key]
        cache = self._caches.get(load.memory)
        address = 0 if cache is None else cache.place(key, load.words, self._uses[key], now, user, settled)
        if address is None:
            return False
        self._loaded.add(key)
        self._emit(self.steps[user].layer, partial(load.make, address))
        return True

    def _emit(self, layer: int, make: Callable[[], list[Instruction]]) -> None:
        try:
            instructions = make()
        except EncodingError as error:
            raise CompileError(f"layer {self.names[layer]!r} is beyond the instruction set: {error}") from None
        for instruction in instructions:
            self._synchronizer.add(instruction)
            self.instruction_layers.append(layer)

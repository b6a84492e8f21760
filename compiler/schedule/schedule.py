"""Steps in order, loads ahead of them: the program order of instructions.

A step is the smallest unit of work with its own loads. The loads of later steps are put before the work of earlier ones
as far as room and data allow, so that they run in the background; `compiler.schedule.synchronize` makes any such order
correct.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass

from accel.errors import EncodingError
from accel.machine.config import TABLE_WORDS, ArchConfig
from accel.machine.isa import Instruction, Memory, Table, table_of
from compiler.emit.instructions import load_instructions, work_instructions
from compiler.emit.keys import Key
from compiler.emit.records import Emission, Load, Step
from compiler.emit.templates import Templates
from compiler.lower.refusal import NoPlaceError
from compiler.schedule.block_cache import BlockCache
from compiler.schedule.synchronize import synchronized

LOOK_AHEAD_STEPS = 8
"""Loads are put at most this many steps ahead of the step that needs them, or as many as `LOOK_AHEAD_ROWS` allow."""

LOOK_AHEAD_ROWS = 4
"""Rows of the array for each step ahead: a wide array needs few steps for a layer, and they are short."""

LOADS_AHEAD_SHARE = 2
"""After each step, at most this part of the LOAD queue's depth goes ahead, so that loads do not hold up fetch."""


@dataclass(frozen=True)
class Placed:
    """A load or a step's work in program order.

    Parameters
    ----------
    record : Load or Step
    step : int
        Where it is put: a step's own loads, its work, then loads ahead of later steps.
    user : int
        The first step that needs the load; `step` unless the load is ahead of it.
    addresses : mapping of Key to int
        Of the block that is loaded, or of the blocks that the step needs.
    instructions : range
        Indices of its instructions.
    """

    record: Load | Step
    step: int
    user: int
    addresses: Mapping[Key, int]
    instructions: range


@dataclass(frozen=True)
class Schedule:
    """A synchronised program, and what each of its instructions is for.

    Parameters
    ----------
    table : ndarray of int64, shape (instructions, COLUMNS)
        As `accel.machine.isa.table_of` returns it, waits and signals set.
    instruction_layers : tuple of int
        Number of each instruction's layer.
    placed : tuple of Placed
        In program order; together they hold every instruction once.
    """

    table: Table
    instruction_layers: tuple[int, ...]
    placed: tuple[Placed, ...]


def schedule(emission: Emission, config: ArchConfig, names: Sequence[str], passing: bool = False) -> Schedule:
    """Put loads ahead of work, give blocks their addresses, and synchronise the units.

    Parameters
    ----------
    emission : Emission
    config : ArchConfig
    names : sequence of str
        Layer names for error messages.
    passing : bool
        Whether loads that must come after a later step are passed by those of further steps that need not.

    Raises
    ------
    NoPlaceError
        A block is larger than its memory, or a field of an instruction is too small; the message names the layer.
    """
    scheduler = _Scheduler(emission, config, names)
    for index in range(len(emission.steps)):
        scheduler.add_step(index)
        scheduler.look_ahead(index, passing)
    return scheduler.finish()


class _Scheduler:
    """The program so far, and which loads are there. Loads are numbered in the order of their first use."""

    def __init__(self, emission: Emission, config: ArchConfig, names: Sequence[str]) -> None:
        self._steps, self._config, self._names = emission.steps, config, names
        self._instructions, self._templates = list[Instruction](), Templates(config)
        caches = {
            Memory.WBUF: BlockCache(config.wbuf_words),
            Memory.PARAM: BlockCache(config.param_rows),
            Memory.TABLE: BlockCache(TABLE_WORDS),
            Memory.TAPS: BlockCache(config.depthwise_words),
        }
        keys = dict.fromkeys(key for step in self._steps for key in step.needs)
        numbers = {key: number for number, key in enumerate(keys)}
        self._loads = [emission.loads[key] for key in keys]
        self._caches = [caches.get(load.memory) for load in self._loads]
        self._needs = [[numbers[key] for key in step.needs] for step in self._steps]
        self._uses: list[list[int]] = [[] for _ in keys]
        for index, needs in enumerate(self._needs):
            for number in needs:
                self._uses[number].append(index)
        self._at = 0
        self._loaded: set[int] = set()
        self._there: list[Container[object]] = [
            self._loaded if cache is None else cache.blocks for cache in self._caches
        ]
        self._layers: list[int] = []
        self._placed: list[Placed] = []

    def add_step(self, index: int) -> None:
        """A step's loads that are not there yet, and its work."""
        self._at, step = index, self._steps[index]
        for number in self._needs[index]:
            if number not in self._there[number] and not self._load(number, index, index, index):
                load = self._loads[number]
                raise NoPlaceError(
                    self._names[step.layer], f"it needs {load.words} words of {load.memory.name} at once"
                )
        addresses = (self._address(number, index) for number in self._needs[index])
        self._place(step, index, dict(zip(step.needs, addresses, strict=True)))

    def look_ahead(self, index: int, passing: bool) -> None:
        """Load what the next steps need, in their order.

        It ends where there is no room but after step `index`, or, unless `passing`, where a load must come after it.
        """
        budget = max(1, self._config.queue_depth // LOADS_AHEAD_SHARE)
        steps = max(LOOK_AHEAD_STEPS, self._config.rows // LOOK_AHEAD_ROWS)
        for later in range(index + 1, min(index + 1 + steps, len(self._steps))):
            for number in self._needs[later]:
                if number in self._there[number]:
                    continue
                if passing and self._loads[number].earliest > index:
                    continue
                early = budget > 0 and self._loads[number].earliest <= index
                if not early or not self._load(number, later, index + 1, index - 1):
                    return
                budget -= 1

    def finish(self) -> Schedule:
        """Everything, synchronised."""
        table = synchronized(self._config, table_of(self._instructions))
        return Schedule(table, tuple(self._layers), tuple(self._placed))

    def _address(self, number: int, step: int) -> int:
        cache = self._caches[number]
        return 0 if cache is None else cache.use(number, step)

    def _load(self, number: int, user: int, now: int, settled: int) -> bool:
        """Add a load for step `user`; False if there is no room among blocks last used by step `settled` or before."""
        load, cache = self._loads[number], self._caches[number]
        address = 0 if cache is None else cache.place(number, load.words, self._uses[number], now, user, settled)
        if address is None:
            return False
        self._loaded.add(number)
        self._place(load, user, {load.key: address})
        return True

    def _place(self, record: Load | Step, user: int, addresses: Mapping[Key, int]) -> None:
        layer, start = self._steps[user].layer, len(self._layers)
        try:
            instructions = (
                work_instructions(self._templates, record.work, addresses)
                if isinstance(record, Step)
                else load_instructions(self._templates, record, addresses[record.key])
            )
        except EncodingError as error:
            raise NoPlaceError(self._names[layer], f"it is beyond the instruction set: {error}") from None
        self._instructions += instructions
        self._layers += [layer] * len(instructions)
        self._placed.append(Placed(record, self._at, user, addresses, range(start, len(self._layers))))

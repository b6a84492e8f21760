"""The machine's rules on single instructions."""

from __future__ import annotations

from accel.errors import ProgramError
from accel.machine.config import ArchConfig
from accel.machine.isa import Instruction, table_of
from accel.machine.rules.check import check_rules


def check_alone(config: ArchConfig, instruction: Instruction) -> None:
    """Raise ProgramError if `instruction`, as the only one of a program, breaks a rule."""
    check_rules(config, table_of([instruction]))


def refusal(config: ArchConfig, instruction: Instruction) -> str:
    """Why it is refused, without the number of the instruction; empty if it is not."""
    try:
        check_alone(config, instruction)
    except ProgramError as error:
        return str(error).removeprefix("instruction 0: ")
    return ""

"""What has no place on the machine."""

from __future__ import annotations

from accel.errors import CompileError


class NoPlaceError(CompileError):
    """The machine cannot compute an operator: the host does.

    Parameters
    ----------
    operator : str
        Name of the node.
    reason : str
        Why, with the numbers.
    """

    def __init__(self, operator: str, reason: str) -> None:
        super().__init__(f"operator {operator!r}: {reason}")
        self.operator, self.reason = operator, reason

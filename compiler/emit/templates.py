"""Instructions that differ only in addresses are made once: groups of channels, and buffers that take turns."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, ParamSpec, TypeVar

from accel.machine.config import ArchConfig

_P = ParamSpec("_P")
_Template = TypeVar("_Template")


class Templates:
    """What functions have made for a machine, by name of the kind and by all that it depends on."""

    def __init__(self, config: ArchConfig) -> None:
        self.config = config
        self._made: dict[Hashable, Any] = {}

    def find(self, key: Hashable, make: Callable[_P, _Template], *args: _P.args, **kwargs: _P.kwargs) -> _Template:
        """What `make` gives, or has given for an equal key; keys of different kinds must differ."""
        if key not in self._made:
            self._made[key] = make(*args, **kwargs)
        found: _Template = self._made[key]
        return found

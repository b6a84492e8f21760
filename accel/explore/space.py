"""A space of machines, from a TOML file: a base, values of some keys, limits of sizes."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from itertools import product
from math import inf
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

from accel.errors import ConfigError, InputError
from accel.machine.area import Area, area
from accel.machine.config import ArchConfig, load_config
from accel.machine.memories import INT32_BYTES

KEYS = tuple(field.name for field in fields(ArchConfig) if field.name not in ("name", "clock_mhz"))
"""Keys that may have several values: those of the fingerprint."""
BYTES: Mapping[str, tuple[str, Callable[[Any], int]]] = {
    "spad_bytes": ("spad_bank_words", lambda config: config.spad_banks * config.rows),
    "wbuf_bytes": ("wbuf_words", lambda config: config.cols),
    "acc_bytes": ("acc_bank_words", lambda config: config.acc_banks * config.cols * INT32_BYTES),
}
"""Sizes of memories in place of a key: the key, and the bytes that one of its words takes in a configuration."""
SIZES = (*(field.name for field in fields(Area)), "mm2")
"""Sizes that may have limits."""


class Limits(NamedTuple):
    """A size must lie in least .. most."""

    least: float
    most: float


class Machines(NamedTuple):
    """The machines of a space, in the order of its keys.

    `impossible` combinations break a rule of configurations, the first of them the rule `why`; `beyond` ones a limit.
    """

    configs: tuple[ArchConfig, ...]
    impossible: int
    why: str
    beyond: int


@dataclass(frozen=True)
class Space:
    """All combinations of values.

    Parameters
    ----------
    base : ArchConfig
        Gives all other keys.
    values : mapping of str to tuple
        The values of each key.
    limits : mapping of str to Limits
        By member of `accel.machine.area.Area`, or `mm2`.
    """

    base: ArchConfig
    values: Mapping[str, tuple[Any, ...]]
    limits: Mapping[str, Limits]

    @classmethod
    def load(cls, path: Path) -> Space:
        """The space in a TOML file (docs/exploring.md); InputError or ConfigError names what is wrong in it."""
        try:
            table = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise InputError(f"{path}: must be a readable TOML file of a space, got {error}") from None
        unknown = [key for key in table if key not in ("base", "keys", "limits")]
        if unknown or not isinstance(table.get("keys"), dict):
            got = f"unknown {unknown[0]!r}" if unknown else "no table of keys"
            raise InputError(f"{path}: must have base, [keys] and [limits], got {got}")
        limits = table.get("limits", {})
        if not isinstance(table.get("base", ""), str) or not isinstance(limits, dict):
            raise InputError(f"{path}: base must be a preset or a TOML file, and limits a table")
        try:
            return cls(
                load_config(table.get("base", "edge")),
                {key: _values(key, value) for key, value in table["keys"].items()},
                {key: _limits(key, value) for key, value in limits.items()},
            )
        except (InputError, ConfigError) as error:
            raise InputError(f"{path}: {error}") from None

    def machines(self) -> Machines:
        """Every machine, once; InputError if there is none."""
        found: dict[str, ArchConfig] = {}
        impossible, why, beyond = 0, "", 0
        for combination in product(*self.values.values()):
            try:
                config = self._config(dict(zip(self.values, combination, strict=True)))
            except ConfigError as error:
                impossible, why = impossible + 1, why or str(error)
                continue
            if self._is_beyond(area(config)):
                beyond += 1
                continue
            fingerprint = config.fingerprint()
            found.setdefault(fingerprint, replace(config, name=f"m_{fingerprint[:12]}"))
        if not found:
            reason = f"{impossible} impossible ({why}), " if impossible else ""
            raise InputError(f"the space must hold a machine, got none: {reason}{beyond} beyond the limits")
        return Machines(tuple(found.values()), impossible, why, beyond)

    def _config(self, values: dict[str, Any]) -> ArchConfig:
        """The base with `values`; those in bytes last, because the words' widths follow from the others."""
        sizes = {key: values.pop(key) for key in BYTES if key in values}
        if not sizes:
            return replace(self.base, **values)
        shape = SimpleNamespace(**{**asdict(self.base), **values})
        for key, size in sizes.items():
            name, word = BYTES[key]
            if type(size) is not int or size % word(shape):
                raise ConfigError(f"{key} must be a multiple of {word(shape)}, got {size!r}")
            values[name] = size // word(shape)
        return replace(self.base, **values)

    def _is_beyond(self, size: Area) -> bool:
        return any(not low <= getattr(size, key) <= high for key, (low, high) in self.limits.items())


def _values(key: str, value: Any) -> tuple[Any, ...]:
    """The values of a key: one, a list, or a range by steps or by factors."""
    if key not in KEYS and key not in BYTES:
        raise InputError(f"keys must be some of {', '.join((*KEYS, *BYTES))}, got {key!r}")
    if isinstance(value, dict):
        return _range(key, value)
    many = value if isinstance(value, list) and not _is_modes(value) else [value]
    if not many:
        raise InputError(f"{key} must have a value, got an empty list")
    return tuple(tuple(one) if isinstance(one, list) else one for one in many)


def _is_modes(value: list[Any]) -> bool:
    """Whether a list is one value of `requant_modes`, not several."""
    return bool(value) and all(isinstance(one, str) for one in value)


def _range(key: str, table: dict[str, Any]) -> tuple[int, ...]:
    by = [word for word in ("step", "factor") if word in table]
    numbers = [table.get(word) for word in ("from", "to", *by)]
    if len(by) != 1 or len(table) != 3 or any(type(number) is not int for number in numbers):
        raise InputError(f"{key} must have from, to, and step or factor, all integers, got {table}")
    value, last, change = (int(number) for number in numbers if number is not None)
    if change < 1 + (by == ["factor"]) or value < by.count("factor"):
        raise InputError(f"{key} must grow, got {table}")
    found = []
    while value <= last:
        found.append(value)
        value = value + change if by == ["step"] else value * change
    if not found:
        raise InputError(f"{key} must have a value, got {table}")
    return tuple(found)


def _limits(key: str, value: Any) -> Limits:
    """Limits of a size: one number that it must have, or `least` and `most`."""
    if key not in SIZES:
        raise InputError(f"limits must be of some of {', '.join(SIZES)}, got {key!r}")
    table = value if isinstance(value, dict) else {"least": value, "most": value}
    numbers = [one for one in table.values() if type(one) in (int, float)]
    if not table or set(table) - {"least", "most"} or len(numbers) < len(table):
        raise InputError(f"the limit of {key} must be a number, or least and most, got {value!r}")
    return Limits(table.get("least", 0), table.get("most", inf))

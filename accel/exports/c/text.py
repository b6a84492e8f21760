"""Numbers, names and structs as C."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

_WIDTH = 120


def identifier(name: str) -> str:
    """A name with what C does not allow in names replaced."""
    return re.sub(r"\W", "_", name, flags=re.ASCII)


def comment(text: str) -> str:
    """Text that does not end the comment in which it stands."""
    return re.sub(r"[^\x20-\x7e]", "?", text).replace("*/", "* /").replace("/*", "/ *").replace("\\", "/")


def array(name: str, values: NDArray[Any]) -> str:
    """A constant array of int8 or int32, flattened in row-major order; the comment tells the shape."""
    kind = f"{values.dtype.name}_t"
    shape = ", ".join(map(str, values.shape))
    lines = [f"static const {kind} {name}[{values.size}] = {{ /* ({shape}) */"]
    return "\n".join([*lines, *_lines(values.reshape(-1).tolist()), "};"])


def _lines(values: Sequence[int]) -> list[str]:
    """Numbers with commas, in lines of at most `_WIDTH` characters."""
    lines, current = list[str](), "   "
    for value in values:
        item = f" {_number(value)},"
        if len(current) + len(item) > _WIDTH:
            lines.append(current)
            current = "   "
        current += item
    return [*lines, current]


def _number(value: Any) -> str:
    """A number; the smallest int32 has no literal of its own in C."""
    if isinstance(value, float):
        return value.hex()
    return "(-2147483647 - 1)" if value == -(2**31) else str(value)


def struct(kind: str, name: str, fields: Mapping[str, Any]) -> str:
    """A constant struct; sequences become arrays, texts names."""
    lines = [f"static const {kind} {name} = {{"]
    return "\n".join([*lines, *(f"    .{field} = {_field(value)}," for field, value in fields.items()), "};"])


def _field(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "{" + ", ".join(map(_number, value)) + "}"
    return value if isinstance(value, str) else _number(value)

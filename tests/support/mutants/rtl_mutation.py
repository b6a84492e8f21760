"""Seeded faults of the RTL: a function's source with one piece of text replaced."""

from __future__ import annotations

import ast
import inspect
import textwrap
from types import ModuleType

import pytest

from rtl import activation_sequencer, array, depthwise_unit, exec_unit, post_unit


def mutate(
    monkeypatch: pytest.MonkeyPatch, module: ModuleType, owner: str | None, name: str, old: str, new: str
) -> None:
    """Replace a function or method by its source with `old` (which must occur once) changed to `new`."""
    target = getattr(module, owner) if owner else module
    source = textwrap.dedent(inspect.getsource(getattr(target, name)))
    assert source.count(old) == 1, f"{name} must hold {old!r} once"
    changed = source.replace(old, new)
    ast.parse(changed)
    scope = dict(vars(module))
    exec(compile(changed, f"<mutant of {name}>", "exec"), scope)
    monkeypatch.setattr(target, name, scope[name])
    if owner is None:
        for user in (array, activation_sequencer, depthwise_unit, exec_unit, post_unit):
            if getattr(user, name, None) is not None:
                monkeypatch.setattr(user, name, scope[name])

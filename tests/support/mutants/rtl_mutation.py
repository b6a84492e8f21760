"""Seeded faults of the RTL: a function's source with one piece of text replaced."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections import Counter
from types import FunctionType, ModuleType

import pytest

from rtl import activation_sequencer, array, depthwise_unit, exec_unit, post_unit


def mutated(module: ModuleType, owner: str | None, name: str, old: str, new: str) -> FunctionType:
    """A function or method from its source with `old` (which must occur once) changed to `new`."""
    target = getattr(module, owner) if owner else module
    source = textwrap.dedent(inspect.getsource(getattr(target, name)))
    assert source.count(old) == 1, f"{name} must hold {old!r} once"
    changed = source.replace(old, new)
    ast.parse(changed)
    scope = dict(vars(module))
    exec(compile(changed, f"<mutant of {name}>", "exec"), scope)
    return scope[name]


def mutate(
    monkeypatch: pytest.MonkeyPatch, module: ModuleType, owner: str | None, name: str, old: str, new: str
) -> None:
    """Replace a function or method by its mutant, wherever it is used."""
    mutant = mutated(module, owner, name, old, new)
    monkeypatch.setattr(getattr(module, owner) if owner else module, name, mutant)
    if owner is None:
        for user in (array, activation_sequencer, depthwise_unit, exec_unit, post_unit):
            if getattr(user, name, None) is not None:
                monkeypatch.setattr(user, name, mutant)


def mutate_pe(monkeypatch: pytest.MonkeyPatch, row: int, column: int, old: str, new: str) -> None:
    """Replace `build` of one PE of the next array by its mutant."""
    faulty = type("FaultyPE", (array.PE,), {"build": mutated(array, "PE", "build", old, new)})
    built: Counter[int] = Counter()

    def pe(int4_weights: bool, of_row: int, sound: type[array.PE] = array.PE) -> array.PE:
        built[of_row] += 1
        return (faulty if (of_row, built[of_row] - 1) == (row, column) else sound)(int4_weights, of_row)

    monkeypatch.setattr(array, "PE", pe)

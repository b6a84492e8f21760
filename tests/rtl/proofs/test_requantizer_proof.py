"""The requantizer equals its definition for every number, every multiplier and every legal shift, in every mode.

Multipliers of 32 x 32 bits defeat solvers, so the product is cut out: (1) halves of the definition's factor and of q
enter the small multipliers; (2) the product is the sum of their results, whatever these are, and a bit says whether
any of its lowest is set; (3) such a sum is factor times q, an identity of integers; (4) bounds of the product; (5) any
number within them becomes, with that bit, the definition's result.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

import numpy as np
import pytest
import z3
from support.formal.netlist import Cycle, Netlist, counterexample, netlist
from support.formal.requantize_terms import WIDE, factor, result, wide
from support.mutants.rtl_mutation import mutate

from accel.machine.config import REQUANT_MODES, preset
from accel.machine.numerics import FP32_MULTIPLIER_STEP, MULTIPLIER_MAX, MULTIPLIER_MIN, RequantMode, requantize
from rtl import requantize as rtl_requantize
from rtl.requantize import HALF, Requantizer

pytestmark = [pytest.mark.rtl, pytest.mark.slow]

MODES = [RequantMode(mode) for mode in REQUANT_MODES]
MULTIPLIED, SUMMED = 4, 6
"""Cycles in which the factor is multiplied, and in which the product is complete."""

MUTANTS = [
    ("tflite", "negative ties go up", "_round", "(tflite & ~number[-1])", "tflite"),
    ("tflite", "a shift to the left has four bits", "_factor", "left[3:5]", "left[3:4]"),
    ("tflite", "carries stay at their bit", "_product", "(carries << 1)", "carries"),
    ("single", "ties go down", "_round", "always.eq(single | ", "always.eq("),
    ("single", "the shift is one less", "_factor", "single.replicate(5)", "single.replicate(4)"),
    ("single", "a partial product is unsigned", "_factor", "Signal(signed(HALF), ", "Signal(HALF, "),
    ("fp32", "a number of 2**31 does not saturate", "_round", "(floor[31] & ~negative)", "0"),
    ("fp32", "a bit below a tie is forgotten", "_number", "rest | product[29]", "rest"),
    ("fp32", "the number's significand is cut off", "_factor", "rounds_up(third, ROUNDED)", "0"),
    ("fp32", "bits below a tie are forgotten", "_product", "lowest[:HALF].any", "lowest[1:HALF].any"),
    ("fp32", "a longer significand keeps its lowest bit", "_number", "product[30] & ~longer", "product[30]"),
    ("fp32", "a factor rounded up to a power of two loses it", "_factor", "Signal(HALF + 1,", "Signal(HALF,"),
    ("tflite", "minus one that is rounded up stays negative", "_number", " & ~product[30:].all()", ""),
]  # fmt: skip


@dataclass(frozen=True)
class Range:
    """Integers from `low` to `high`."""

    low: int
    high: int

    def holds(self, value: z3.ExprRef) -> z3.BoolRef:
        return z3.And(value >= self.low, value <= self.high)


def factor_range(mode: RequantMode) -> Range:
    """Of the definition's factor, unless x is 0."""
    return Range(1 << 23, 1 << 24) if mode is RequantMode.FP32 else Range(-(1 << 31), (1 << 31) - 1)


def multiplier_range(mode: RequantMode) -> Range:
    """Of q, unless it is 0."""
    return Range(MULTIPLIER_MIN, MULTIPLIER_MAX - (FP32_MULTIPLIER_STEP - 1) * (mode is RequantMode.FP32))


def product_range(mode: RequantMode) -> Range:
    """Of the product, unless it is 0."""
    f, q = factor_range(mode), multiplier_range(mode)
    return Range(f.low * (q.high if f.low < 0 else q.low), f.high * q.high)


def requantizer() -> Netlist:
    return netlist(Requantizer(preset("tiny")))


def selected(first: Cycle, mode: RequantMode) -> z3.BoolRef:
    """The inputs of cycle `first` select `mode` and a shift that is legal in it."""
    return z3.And(first["mode"] == mode.code, first["shift"] >= mode.shift_min, first["shift"] <= 30)


def factor_is_the_definitions(circuit: Netlist, mode: RequantMode) -> bool:
    """(1)."""
    first, *_, now = islice(circuit.cycles(), MULTIPLIED + 1)
    q = z3.Extract(30, 0, first["multiplier"])
    entering = {
        name: [wide(now(term)) for term in circuit.following[circuit[name]].children()]
        for name in ("low_low_1", "low_high_1", "high_low_1", "high_high_1")
    }
    (low, q_low), (high, q_high) = entering["low_low_1"], entering["high_high_1"]
    defined = factor(mode, first["x"], first["shift"])
    claim = z3.And(
        *(
            a == b
            for a, b in zip(entering["low_high_1"] + entering["high_low_1"], (low, q_high, high, q_low), strict=True)
        ),
        Range(0, 1 << HALF).holds(low),
        Range(-(1 << (HALF - 1)), (1 << (HALF - 1)) - 1).holds(high),
        q_low == z3.ZeroExt(WIDE - 16, z3.Extract(15, 0, q)),
        q_high == z3.ZeroExt(WIDE - 15, z3.Extract(30, 16, q)),
        (high << HALF) + low == defined,
        z3.Or(factor_range(mode).holds(defined), z3.And(first["x"] == 0, defined == 0)),
    )
    return counterexample(claim, selected(first, mode)) is None


def product_is_the_sum(circuit: Netlist) -> bool:
    """(2), for results of multipliers of 17, 16 (signed) times 16, 15 bits."""
    low, high, q_low, q_high = 1 << HALF, 1 << (HALF - 1), (1 << HALF) - 1, (1 << (HALF - 1)) - 1
    parts = {
        "low_low_1": Range(0, low * q_low),
        "low_high_1": Range(0, low * q_high),
        "high_low_1": Range(-high * q_low, (high - 1) * q_low),
        "high_high_1": Range(-high * q_high, (high - 1) * q_high),
    }
    now, then = islice(circuit.cycles(), 2)
    values = {
        name: wide(now[name]) if part.low else z3.ZeroExt(WIDE - now[name].size(), now[name])
        for name, part in parts.items()
    }
    middle, top = values["low_high_1"] + values["high_low_1"], values["high_high_1"]
    claim = z3.And(
        wide(then["product"]) == values["low_low_1"] + (middle << 16) + (top << 32),
        then["lowest_any_1"] == any_of_lowest(then["product"]),
    )
    ranges = [part.holds(values[name]) for name, part in parts.items()]
    return counterexample(claim, *ranges) is None


def any_of_lowest(product: z3.BitVecRef) -> z3.BoolRef:
    return z3.Extract(HALF - 1, 0, product) != 0


def product_becomes_the_result(circuit: Netlist, mode: RequantMode) -> bool:
    """(5)."""
    cycles = list(islice(circuit.cut("product", "low_low_1").cycles(), Requantizer.latency + 1))
    first, product = cycles[0], cycles[SUMMED]["product"]
    claim = cycles[-1]["y"] == result(mode, first["x"], product, first["shift"])
    bounds = z3.And(
        z3.Implies(first["x"] == 0, product == 0),
        z3.Or(product_range(mode).holds(product), product == 0),
        cycles[SUMMED]["lowest_any_1"] == any_of_lowest(product),
    )
    signs = [first["x"] < 0, first["x"] >= 0]  # apart: each takes a fraction of the time of both
    return all(counterexample(claim, selected(first, mode), bounds, sign) is None for sign in signs)


def is_proved(mode: RequantMode) -> bool:
    """(1), (2) and (5) hold for the circuit."""
    circuit = requantizer()
    return (
        factor_is_the_definitions(circuit, mode)
        and product_is_the_sum(circuit)
        and product_becomes_the_result(circuit, mode)
    )


@pytest.mark.parametrize("mode", MODES)
def test_equals_the_definition_for_every_number(mode: RequantMode) -> None:
    assert is_proved(mode)


def test_partial_products_add_up() -> None:
    """(3): a sum of partial products is the product."""
    low, high, q_low, q_high = z3.Ints("low high q_low q_high")
    half, q = 1 << HALF, (1 << HALF) * q_high + q_low
    parts = low * q_low + (low * q_high + high * q_low) * half + high * q_high * half * half
    solver = z3.Solver()
    solver.add(parts != (high * half + low) * q)
    assert solver.check() == z3.unsat


@pytest.mark.parametrize("mode", MODES)
def test_bounds_of_the_product(mode: RequantMode) -> None:
    """(4)."""
    f, q = z3.Ints("factor q")
    solver = z3.Solver()
    solver.add(z3.Or(factor_range(mode).holds(f), f == 0), z3.Or(multiplier_range(mode).holds(q), q == 0))
    solver.add(z3.Not(z3.Or(product_range(mode).holds(f * q), f * q == 0)))
    assert solver.check() == z3.unsat


@pytest.mark.parametrize("mode", MODES)
def test_terms_are_the_definition(mode: RequantMode) -> None:
    """The terms on numbers equal `accel.machine.numerics`."""
    rng = np.random.default_rng(5)
    for _ in range(150):
        x = int(rng.integers(-(2**31), 2**31) >> rng.integers(0, 32))
        q = int(rng.choice([1 << 30, 3 << 29, rng.integers(1 << 30, 1 << 31)])) & ~127
        e = int(rng.integers(-20, 15) if rng.random() < 0.8 else rng.integers(mode.shift_min, 31))
        terms = z3.BitVecVal(x, 32), z3.BitVecVal(e, 8)
        product = z3.simplify(factor(mode, *terms) * q)
        y = z3.simplify(result(mode, terms[0], z3.Extract(62, 0, product), terms[1]))
        assert y.as_signed_long() == int(requantize(x, q, e, mode)), (x, q, e)


@pytest.mark.parametrize(("mode", "what", "name", "old", "new"), MUTANTS, ids=[row[1] for row in MUTANTS])
def test_mutants_are_found(
    mode: str, what: str, name: str, old: str, new: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mutate(monkeypatch, rtl_requantize, "Requantizer", name, old, new)
    assert not is_proved(RequantMode(mode)), f"the proof must fail where {what}"

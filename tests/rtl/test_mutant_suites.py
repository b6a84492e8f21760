"""The suites that judge mutants of the netlist find nothing wrong with the machine itself."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest
from support.mutants.campaign import Suites
from support.rtl.hostile import COUNTED
from support.rtl.port_conflicts import check_legal

from accel.errors import DivergenceError

pytestmark = pytest.mark.rtl


def test_users_of_ports_are_legal_alone() -> None:
    check_legal()


@pytest.mark.slow
def test_the_machine_passes() -> None:
    assert not Suites(COUNTED, seed=0).verdict(0)


def judge(suite: Callable[[int], None]) -> str:
    """The verdict of one suite."""

    class OneSuite(Suites):
        @property
        def _suites(self) -> dict[str, Callable[[int], None]]:
            return {"suite": suite}

    return OneSuite(COUNTED, seed=0).verdict(1)


def failing(error: Exception) -> Callable[[int], None]:
    def suite(mutant: int) -> None:
        raise error

    return suite


def ended(number: int) -> Callable[[int], None]:
    return lambda mutant: os.kill(os.getpid(), number)


def test_a_wrong_machine_is_noticed() -> None:
    assert not judge(lambda mutant: None)
    assert judge(failing(AssertionError("bytes"))) == "suite"
    assert judge(failing(DivergenceError("no end"))) == "suite"
    assert judge(ended(signal.SIGXCPU)) == "no end"


@pytest.mark.parametrize("suite", [failing(ImportError("numpy")), failing(MemoryError()), ended(signal.SIGTERM)])
def test_what_is_no_verdict_on_the_machine_ends_the_campaign(suite: Callable[[int], None]) -> None:
    with pytest.raises(RuntimeError, match="each suite must judge mutant 1, got exit code"):
        judge(suite)

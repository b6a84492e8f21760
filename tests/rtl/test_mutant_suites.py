"""The suites that judge mutants of the netlist find nothing wrong with the machine itself."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import cast

import pytest
from support.mutants import trials
from support.mutants.campaign import Campaign
from support.mutants.trials import Trial, Watched
from support.rtl.hostile import COUNTED
from support.rtl.port_conflicts import check_legal

from accel.errors import DivergenceError
from rtl.testbench.verilator import Powered

pytestmark = pytest.mark.rtl


def test_users_of_ports_are_legal_alone() -> None:
    check_legal()


@pytest.mark.marathon
def test_the_machine_passes() -> None:
    for suite in Campaign(COUNTED, seed=0).suites.values():
        suite(Trial(COUNTED))


def judge(suite: Callable[[Trial], None]) -> str:
    """The verdict of one suite."""

    class OneSuite(Campaign):
        @property
        def suites(self) -> dict[str, Callable[[Trial], None]]:
            return {"suite": suite}

    return OneSuite(COUNTED, seed=0).verdict(1)


def failing(error: Exception) -> Callable[[Trial], None]:
    def suite(trial: Trial) -> None:
        raise error

    return suite


def ended(number: int) -> Callable[[Trial], None]:
    return lambda trial: os.kill(os.getpid(), number)


def test_a_right_machine_passes_in_any_thread() -> None:
    assert not judge(lambda trial: None)
    with ThreadPoolExecutor(1) as pool:
        assert not pool.submit(judge, lambda trial: None).result()


def test_only_named_suites_judge() -> None:
    class TwoSuites(Campaign):
        @property
        def suites(self) -> dict[str, Callable[[Trial], None]]:
            return {"right": lambda trial: None, "wrong": failing(AssertionError("bytes"))}

    campaign = TwoSuites(COUNTED, seed=0)
    assert campaign.verdict(1) == campaign.verdict(1, ["wrong"]) == "wrong"
    assert not campaign.verdict(1, ["right"])


def test_a_wrong_machine_is_noticed() -> None:
    assert judge(failing(AssertionError("bytes"))) == "suite"
    assert judge(failing(DivergenceError("no end"))) == "suite"
    assert judge(ended(signal.SIGXCPU)) == "no end"


@pytest.mark.parametrize(
    "suite", [failing(ImportError("numpy")), failing(MemoryError()), ended(signal.SIGTERM), lambda trial: os._exit(1)]
)
def test_what_is_no_verdict_on_the_machine_ends_the_campaign(suite: Callable[[Trial], None]) -> None:
    with pytest.raises(RuntimeError, match="each suite must judge mutant 1, got exit code"):
        judge(suite)


NO_MACHINE = cast(Powered, None)


@pytest.mark.parametrize(("chosen", "run"), [(None, "abcde"), ({0, 3}, "ad"), (set(), "")])
def test_only_chosen_cases_run(chosen: set[int] | None, run: str) -> None:
    trial = Trial(COUNTED, 1, chosen)
    ran = [*trial.each(NO_MACHINE, "abc"), *trial.each(NO_MACHINE, "de")]
    assert "".join(ran) == run


def test_a_mutant_has_the_cases_that_make_its_bit_differ_and_the_one_after_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counts = iter([{7: 2, 8: 0}, {7: 2, 8: 5}, {7: 2, 8: 5}, {7: 3, 8: 5}, {7: 0, 8: 1}])
    monkeypatch.setattr(trials, "coverage", lambda machine: "")
    monkeypatch.setattr(trials, "excitements", lambda verilog, text: Counter(next(counts)))
    trial = Watched(COUNTED)
    for cases in (4, 1):
        trial.begun(NO_MACHINE)
        assert len([*trial.each(NO_MACHINE, range(cases))]) == cases
    assert trial.cases == {7: {0, 1, 3, 4}, 8: {1, 2, 4, 5}}

"""The suites that judge mutants of the netlist find nothing wrong with the machine itself."""

from __future__ import annotations

import pytest
from support.mutants.campaign import Suites
from support.rtl.hostile import COUNTED
from support.rtl.port_conflicts import check_legal

pytestmark = pytest.mark.rtl


def test_users_of_ports_are_legal_alone() -> None:
    check_legal()


@pytest.mark.slow
def test_the_machine_passes() -> None:
    assert not Suites(COUNTED, seed=0).verdict(0)

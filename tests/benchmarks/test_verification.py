"""What the scripts on mutants and coverage print."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
from support.mutants.netlist_mutants import NetlistMutant, options_of
from support.mutants.verdicts import Verdicts

import accel

LINE = "mutate -mode inv -module accelerator_pe_odd -cell $add$7 -port A -portbit 3 -wire sum -wirebit 3 -src x.v:1"


@pytest.fixture(params=["mutants", "rtl_coverage"])
def script(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(Path(accel.__file__).parents[1] / "benchmarks")
    return import_module(request.param)


def key(page: str, line: int, name: str, instance: str) -> str:
    fields = {"page": page, "l": line, "n": 1, "o": name, "h": instance}
    return "".join(f"\x01{field}\x02{value}" for field, value in fields.items())


@pytest.mark.parametrize("script", ["rtl_coverage"], indirect=True)
def test_a_point_is_reached_if_it_is_in_one_instance_of_one_run(script: ModuleType) -> None:
    toggle, line = "v_toggle/accelerator_pe_odd", "v_line/accelerator_pe_odd"
    monitor = "v_line/accelerator_fetch_monitor"
    first = [(toggle, 3, "sum[0]", "a", 0), (toggle, 3, "sum[0]", "b", 2), (line, 9, "block", "a", 0)]
    second = [(toggle, 3, "sum[1]", "a", 0), (monitor, 9, "block", "a", 1)]
    files = ["\n".join(f"C '{key(*row[:4])}' {row[4]}" for row in rows) for rows in (first, second)]
    found = list(script.points(files))
    assert sorted((point.kind, point.hits) for point in found) == [("line", 0), ("toggle", 0), ("toggle", 2)]
    assert script.report(found)[2:] == [
        "| line | 0 | 1 | 0.0 |",
        "| toggle | 1 | 2 | 50.0 |",
        "most is missing in accelerator_pe_odd (2)",
    ]


@pytest.mark.parametrize("script", ["mutants"], indirect=True)
def test_mutants_that_are_proved_equivalent_do_not_count(script: ModuleType, capsys: pytest.CaptureFixture) -> None:
    mutants = [NetlistMutant(number, options_of(LINE)) for number in (1, 2, 3, 4)]
    script.report(dict(zip(mutants, ["programs", "no end", "", ""], strict=True)), {3})
    assert capsys.readouterr().out.splitlines() == [
        "4 mutants of 1 modules: 2 killed",
        "  by programs: 1",
        "  by no end: 1",
        "1 proved equivalent, 1 survive",
        "score 66.7 % of those that are not equivalent",
        "  4: inv in pe_odd, $add$7 A[3] (sum[3])",
    ]
    assert mutants[0].command(module="gate").startswith("mutate -mode inv -module gate -cell $add$7")


def test_what_was_noticed_is_kept_for_the_same_netlist_and_survivors_are_judged_again(tmp_path: Path) -> None:
    file = tmp_path / "verdicts.jsonl"
    for netlist, suite in (("module a;", "wide"), ("module b;", "stops")):
        Verdicts(file, netlist).add(7, suite)
        Verdicts(file, netlist).add(8, "")
    assert Verdicts(file, "module a;").known == {7: "wide"}
    assert Verdicts(file, "module b;").known == {7: "stops"}
    assert Verdicts(None, "module a;").known == {}

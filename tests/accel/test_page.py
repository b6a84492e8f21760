"""The page of a report: numbers beside those of JSON, one file, the same bytes; occupancy and causes by slow counts."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.cli.invoke import error, success
from support.networks.small_networks import conv, every_compiled_operation, network

import accel
from accel.machine import isa
from accel.machine.isa import Opcode, Unit
from accel.machine.memories import Space
from accel.report.causes import CAUSES
from accel.report.occupancy import occupancy
from compiler.schedule.footprint import footprint


class Tables(HTMLParser):
    """The cells of all tables of a page, by the heading before each; and all tags and attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables: dict[str, list[list[str]]] = {}
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self._heading, self._place = "", ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self._place = tag
        if tag == "h2":
            self._heading = ""
        if tag == "tr":
            self.tables.setdefault(self._heading, []).append([])
        if tag == "td":
            self.tables[self._heading][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        self._place = ""

    def handle_data(self, data: str) -> None:
        if self._place == "h2":
            self._heading += data
        if self._place == "td":
            self.tables[self._heading][-1][-1] += data


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    program = accel.compile(every_compiled_operation(), "tiny")
    program.save(folder / "m.program")
    np.savez(folder / "x.npz", t0=np.ones((1, 9, 8, 3), np.int8))
    arguments = ("run", str(folder / "m.program"), "--input", str(folder / "x.npz"), "--report", str(folder / "a.html"))
    (folder / "a.json").write_text(success(*arguments, "--json"))
    return folder


def test_numbers_are_those_of_json(folder: Path) -> None:
    facts = json.loads((folder / "a.json").read_text())
    text = (folder / "a.html").read_text()
    page = Tables(text)
    rows = page.tables["Layers"][1:]
    bounds = facts["lower_bounds"]
    assert len(rows) == len(facts["layers"]) + 1
    for cells, layer, bound, energy in zip(rows, facts["layers"], bounds["layers"], facts["energy_pj"], strict=False):
        total = energy["arithmetic"] + energy["on_chip"] + energy["external"]
        least = max(bound.values())
        distance = f"{(layer['cycles'] + layer['hidden_cycles']) / least:.3f}" if least else "-"
        assert cells == [
            layer["name"], layer["op"], *(f"{layer[key]:,}" for key in ("macs", "cycles", "hidden_cycles")),
            f"{layer['utilization']:.1%}", layer["bound"], f"{least:,}", distance,
            f"{layer['read_bytes']:,}", f"{layer['written_bytes']:,}", f"{total / 1e6:,.3f}",
        ]  # fmt: skip
    assert rows[-1][3] == f"{facts['cycles']:,}"
    assert rows[-1][7] == f"{max(bounds['network'].values()):,}"
    causes = page.tables["Causes of each layer's cycles"][1:]
    assert causes == [
        [layer["name"], *(f"{counts[cause]:,}" for cause in CAUSES)]
        for layer, counts in zip(facts["layers"], facts["layer_causes"], strict=True)
    ]
    stalls = page.tables["Causes of each unit's cycles"][1:]
    assert {row[0]: sum(int(cell.replace(",", "")) for cell in row[1:]) for row in stalls} == dict.fromkeys(
        facts["stalls"], facts["cycles"]
    )
    assert f"{facts['cycles']:,} cycles" in text
    assert f"{facts['speed']['machine_ms']:.4g} ms" in text


def test_the_page_is_one_file_and_the_same_each_time(folder: Path) -> None:
    success("estimate", str(folder / "m.program"), "--report", str(folder / "b.html"))
    text = (folder / "b.html").read_text()
    assert text == accel.estimate(accel.Program.load(folder / "m.program")).page("m.program on tiny")
    page = Tables(text)
    assert text.count("<svg") == 5
    assert not page.tags & {"script", "link", "img", "iframe", "object", "embed"}
    assert not page.attributes & {"src", "href"}
    assert "@import" not in text


def test_pages_are_refused_before_any_work(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert error("estimate", "m.program", "--report", "none/a.html") == "Error: none/a.html: its folder does not exist"
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert error("estimate", "none.program", "--report", "a.html") == (
        "Error: the HTML page needs matplotlib, which is not installed: pip install 'accel[plot]'"
    )


@pytest.mark.parametrize("config", ["tiny", "edge"])
def test_causes_by_a_count_of_every_cycle(config: str) -> None:
    """Array and engine from the stamps; waits from the counters of the units, as far as they stand alone."""
    estimate = accel.estimate(accel.compile(every_compiled_operation(), config))
    total = {cause: sum(layer[cause] for layer in estimate.causes) for cause in CAUSES}
    assert [sum(layer.values()) for layer in estimate.causes] == [row.cycles for row in estimate.layers]
    assert total["array"] == estimate.stalls["EXEC"]["busy"]
    busy = np.zeros((len(Unit), estimate.cycles), bool)
    timeline, units = estimate.timeline, isa.decode_table(estimate.program.code)[:, 0] - 1
    for unit, first, last in zip(units, timeline.issue, timeline.occupied, strict=True):
        busy[unit, first : last + 1] = True
    assert total["depthwise"] == np.count_nonzero(busy[Unit.DEPTHWISE] & ~busy[Unit.EXEC])
    neither = ~busy[Unit.DEPTHWISE] & ~busy[Unit.EXEC]
    rest = sum(cycles for cause, cycles in total.items() if cause not in ("array", "depthwise"))
    assert rest == np.count_nonzero(neither)
    assert total["none"] <= np.count_nonzero(~busy.any(axis=0))


def test_occupancy_by_a_count_of_every_word_and_cycle() -> None:
    program = accel.compile(network((1, 6, 5, 8), conv(8, (3, 3)), conv(4, (2, 2))), "tiny")
    estimate = accel.estimate(program)
    uses = [footprint(program.config, instruction) for instruction in isa.decode(program.code)]
    for memory in occupancy(program, estimate.timings, uses):
        expected = slow_occupancy(program, estimate, uses, Space[memory.name], memory.words)
        places = np.searchsorted(memory.cycles, np.arange(estimate.cycles), side="right") - 1
        np.testing.assert_array_equal(memory.occupied[places], expected)
        assert memory.peak == expected.max()


def slow_occupancy(program: accel.Program, estimate: accel.Estimate, uses: Any, space: Space, words: int) -> Any:
    """Word by word: the accesses in the order of issue, and the cycles from each writer to its last reader."""
    occupied, timeline = np.zeros((words, estimate.cycles), bool), estimate.timeline
    instructions = isa.decode(program.code)
    for word in range(words):
        begin = None
        for i in np.argsort(timeline.issue, kind="stable"):
            reads, writes = (touches(side.get(space), word) for side in (uses[i].reads, uses[i].writes))
            sums = space is Space.ACC and instructions[i].opcode in (Opcode.EXEC, Opcode.DEPTHWISE)
            if reads and not sums and begin is not None:
                occupied[word, begin : timeline.complete[i] + 1] = True
            if writes and not (sums and instructions[i]["accumulate"]):
                begin = timeline.issue[i]
    return occupied.sum(axis=0)


def touches(intervals: Any, word: int) -> bool:
    return intervals is not None and any(first <= word < last for first, last in intervals)

"""Exploring machines: spaces, the file of results, fronts; kills, dead workers, refused networks, full disks."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.cli.invoke import error, success
from support.networks.small_networks import conv, fully_connected, network

import accel
from accel.errors import InputError, ToolError
from accel.explore import Point, Space, front
from accel.explore.point import LOST, OK, REFUSED, Network, measure
from accel.explore.store import Store
from accel.machine.area import area
from accel.report.energy import EnergyTable

SPACE = """
base = "tiny"
[keys]
rows = {from = 2, to = 8, factor = 2}
cols = [2, 4, 8]
post_lanes = 2
requant_modes = [["tflite"], ["tflite", "single"]]
spad_banks = {from = 1, to = 3, step = 1}
[limits]
multipliers = {most = 40}
"""


def space(folder: Path, text: str = SPACE) -> Space:
    path = folder / "space.toml"
    path.write_text(text)
    return Space.load(path)


def test_a_space_by_hand(tmp_path: Path) -> None:
    machines = space(tmp_path).machines()
    shapes = [(rows, cols) for rows in (2, 4, 8) for cols in (2, 4, 8)]
    kept = [(r, c) for r, c in shapes if r * c + min(r, c) * 3 <= 40]
    found = [(one.rows, one.cols, one.requant_modes, one.spad_banks) for one in machines.configs]
    modes = [("tflite",), ("tflite", "single")]
    assert found == [(r, c, m, b) for r, c in kept for m in modes for b in (1, 2, 3)]
    assert (machines.impossible, machines.beyond) == (0, 6 * (len(shapes) - len(kept)))
    assert len({one.name for one in machines.configs}) == len(found)
    assert space(tmp_path, "[keys]\nrows = 32\n").machines().configs[0].rows == 32


def test_impossible_machines_are_counted(tmp_path: Path) -> None:
    machines = space(tmp_path, 'base = "tiny"\n[keys]\nrows = [3, 4, 5]\n').machines()
    assert (len(machines.configs), machines.impossible) == (1, 2)
    assert machines.why == "one of rows and cols must divide the other, got rows = 3, cols = 4"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("keys = 1", "must have base, [keys] and [limits], got no table of keys"),
        ("[keys]\n[key]", "must have base, [keys] and [limits], got unknown 'key'"),
        ("[keys]\nclock_mhz = 1", "keys must be some of rows, cols, "),
        ("[keys]\nrows = []", "rows must have a value, got an empty list"),
        ("[keys]\nrows = {from = 1, to = 4}", "rows must have from, to, and step or factor, all integers, got "),
        ("[keys]\nrows = {from = 1, to = 4, factor = 1}", "rows must grow, got "),
        ("[keys]\nrows = {from = 5, to = 4, step = 1}", "rows must have a value, got "),
        (
            "[keys]\n[limits]\nwires = 1",
            "limits must be of some of multipliers, requantizers, register_bits, sram_bits, ",
        ),
        ("[keys]\n[limits]\nmm2 = {most = 'a'}", "the limit of mm2 must be a number, or least and most, got "),
        ("base = 'huge'\n[keys]", "config must be one of tiny, "),
        ("rows = ", "must be a readable TOML file of a space, got "),
    ],
)
def test_bad_spaces_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        space(tmp_path, text)
    assert str(caught.value).startswith(f"{tmp_path / 'space.toml'}: {message}")


def test_a_space_without_machines(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"^the space must hold a machine, got none: 1 impossible \(rows must .*\), 1 bey"
    ):
        space(tmp_path, "[keys]\nrows = [0, 16]\n[limits]\nmultipliers = 1\n").machines()


@pytest.fixture
def one() -> Network:
    return Network("a", network((1, 4, 5, 3), conv(6, (2, 2)), fully_connected(4)))


def point(one: Network, **changes: Any) -> Point:
    config = replace(accel.preset("tiny"), queue_depth=changes.pop("queue_depth", 8))
    return replace(measure(one.name, one.digest, one.graph, config, EnergyTable()), **changes)


def test_a_point_is_the_estimate(one: Network) -> None:
    mine, config = point(one), accel.preset("tiny")
    estimate = accel.estimate(accel.compile(one.graph, "tiny"))
    assert (mine.cycles, mine.lower_bound, mine.status) == (estimate.cycles, estimate.bound.cycles, OK)
    assert mine.energy_pj == sum(layer.total for layer in estimate.energies)
    assert (mine.sram_bits, mine.mm2) == (area(config).sram_bits, area(config).mm2)
    assert Point.from_row(mine.row()) == mine


def test_front_is_what_nobody_beats(one: Network) -> None:
    figures = [(5, 5, 5), (6, 5, 5), (4, 9, 9), (9, 4, 5), (5, 5, 5), (1, 1, 1)]
    points = [point(one, cycles=c, energy_pj=e, mm2=m) for c, e, m in figures]
    points[-1] = replace(points[-1], host_macs=7)
    points.append(replace(points[0], cycles=0, status=LOST))
    assert [(p.cycles, p.energy_pj) for p in front(points)] == [(4, 9), (5, 5), (5, 5), (9, 4)]
    assert front(points[-1:]) == []


def test_the_file_keeps_points_and_refuses_others(one: Network, tmp_path: Path) -> None:
    path, table = tmp_path / "r.sqlite", EnergyTable()
    store = Store(path, "v", table)
    store.add(point(one, status=LOST, error="gone"))
    store.add(point(one))
    with pytest.raises(InputError, match=r"must be a file of results that nobody else writes, got: database is lo"):
        Store(path, "v", table)
    store.close()
    store = Store(path, "v", table)
    assert list(store.points().values()) == [point(one)]
    store.close()
    with pytest.raises(InputError, match=r"holds points of another version of accel; give -o a new file, or remove"):
        Store(path, "w", table)
    with pytest.raises(InputError, match=r"holds points of another table of energies"):
        Store(path, "v", replace(table, mac=1))
    path.write_bytes(b"something else" * 100)
    with pytest.raises(InputError, match=r"must be a file of results that nobody else writes, got: file is not a data"):
        Store(path, "v", table)


def test_a_full_disk_is_one_sentence_and_loses_nothing(one: Network, tmp_path: Path) -> None:
    store = Store(tmp_path / "r.sqlite", "v", EnergyTable())
    store._file.execute("PRAGMA max_page_count = 6")
    first, added = point(one), []

    def fill() -> None:
        for depth in range(2, 64):
            store.add(replace(first, config=replace(first.config, queue_depth=depth)))
            added.append(depth)

    with pytest.raises(ToolError, match=r"r.sqlite: database or disk is full; the points before are kept: repeat"):
        fill()
    store._file.execute("PRAGMA max_page_count = 600")
    assert added
    assert [kept.config.queue_depth for kept in store.points().values()] == added


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dask's workers as threads of this process."""
    from distributed import Client

    @contextmanager
    def client(workers: int | None, scheduler: str | None) -> Iterator[Any]:
        with Client(processes=False, n_workers=1, threads_per_worker=1, dashboard_address=None) as made:
            yield made

    monkeypatch.setattr(sys.modules["accel.explore.explore"], "_client", client)


@pytest.mark.usefixtures("threads")
def test_command(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures beside those of `estimate`; a second run computes nothing; errors become rows."""
    (files / "space.toml").write_text('base = "tiny"\n[keys]\nqueue_depth = [2, 3, 4]\nacc_bank_words = 128\n')
    arguments = ["explore", "a.graph", "--space", "space.toml", "-o", "r.sqlite"]
    module = sys.modules["accel.explore.explore"]

    def failing(name: str, digest: str, graph: Any, config: Any, energies: Any) -> Point:
        if config.queue_depth in (3, 9):
            raise RuntimeError("boom")
        return measure(name, digest, graph, config, energies)

    monkeypatch.setattr(module, "measure", failing)
    text = success(*arguments, "--report", "r.html")
    assert "3 machines" in text
    assert "1 point without figures, the first a.graph on m_" in text
    assert "failed: RuntimeError: boom" in " ".join(text.split())
    monkeypatch.setattr(module, "measure", None)
    assert success(*arguments) == text
    page = Path("r.html").read_text()
    assert page.count("<svg") == 1
    assert "RuntimeError: boom" in page
    with sqlite3.connect("r.sqlite") as file:
        rows = dict(file.execute("SELECT queue_depth, cycles FROM points"))
    assert rows[2] == accel.estimate(accel.compile("a.graph", replace(accel.preset("tiny"), queue_depth=2))).cycles
    assert error("explore", "a.program", *arguments[2:]) == (
        "Error: a.program: must be a network, got a program, which is for one machine only"
    )


def test_networks_that_do_not_compile_are_rows(one: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise accel.AccelError("no room")

    monkeypatch.setattr("accel.api.compile", refuse)
    refused = point(one)
    assert (refused.status, refused.error, refused.cycles) == (REFUSED, "no room", 0)
    assert refused.multipliers == 28


def test_without_the_library(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr(sys.modules["accel.explore.explore"], "find_spec", lambda name: None)
    assert error("explore", "a.graph", "--space", "s.toml", "-o", "r.sqlite") == (
        "Error: exploring needs Dask, which is not installed: pip install 'accel[explore]'"
    )


COMMAND = "from accel.cli.main import main\nif __name__ == '__main__':\n    main()"


def start(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    script = folder / "command.py"
    script.write_text(COMMAND)
    return subprocess.Popen(
        [sys.executable, str(script), "explore", "a.graph", "--space", "space.toml", "--workers", "1", *arguments],
        cwd=folder, stdout=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip


def table(path: Path) -> list[tuple[Any, ...]]:
    if not path.exists():
        return []
    with sqlite3.connect(path) as file:
        return list(file.execute("SELECT * FROM points ORDER BY fingerprint"))


@pytest.mark.slow
def test_killed_and_resumed_gives_the_same_table(files: Path) -> None:
    depths = list(range(2, 65))
    (files / "space.toml").write_text(f'base = "tiny"\n[keys]\nqueue_depth = {depths}\n')
    killed = start(files, "-o", "parts.sqlite")
    path = files / "parts.sqlite"
    deadline = time.monotonic() + 120
    # The file is locked while it is written: its size says that points are in it.
    while time.monotonic() < deadline and (not path.exists() or path.stat().st_size <= 5 * 4096):
        time.sleep(0.01)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    before = table(path)
    assert 0 < len(before) < len(depths)
    assert start(files, "-o", "parts.sqlite").wait() == 0
    graph = accel.load_graph("a.graph")
    configs = Space.load(files / "space.toml").machines().configs
    digest = Network("a.graph", graph).digest
    expected = [measure("a.graph", digest, graph, config, EnergyTable()).row() for config in configs]
    assert table(path) == sorted((tuple(row.values()) for row in expected), key=lambda row: row[0])
    assert set(before) <= set(table(path))


@pytest.mark.slow
def test_a_worker_that_dies_is_a_row(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if others wait behind it, which it takes along."""
    (files / "space.toml").write_text('base = "tiny"\n[keys]\nqueue_depth = [3, 9, 2, 4, 5]\n')
    (files / "sitecustomize.py").write_text(
        "import sys\n"
        "import accel.explore\n"
        "module = sys.modules['accel.explore.explore']\n"
        "measure = module.measure\n"
        "def deadly(name, digest, graph, config, energies):\n"
        "    if config.queue_depth in (3, 9):\n"
        "        import os\n"
        "        os._exit(9)\n"
        "    return measure(name, digest, graph, config, energies)\n"
        "module.measure = deadly\n"
    )
    before = os.environ.get("PYTHONPATH", "")
    monkeypatch.setenv("PYTHONPATH", f"{files}{os.pathsep}{before}")
    assert start(files, "-o", "r.sqlite").wait() == 0
    with sqlite3.connect("r.sqlite") as file:
        rows = dict(file.execute("SELECT queue_depth, status FROM points"))
    assert rows == {2: OK, 3: LOST, 4: OK, 5: OK, 9: LOST}
    monkeypatch.setenv("PYTHONPATH", before)
    assert start(files, "-o", "r.sqlite").wait() == 0
    with sqlite3.connect("r.sqlite") as file:
        assert set(dict(file.execute("SELECT queue_depth, status FROM points")).values()) == {OK}

"""The machine on the buses of an outside AXI model (cocotbext-axi), through cocotb and Icarus."""

from __future__ import annotations

import contextlib
import os
import shutil
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from support.rtl.bench import small
from support.rtl.matmul_program import ACTIVATIONS, OUTPUTS, matmul_program

from rtl.verilog import TOP, emit

pytestmark = [pytest.mark.rtl, pytest.mark.slow]
CONFIG = small(rows=2, cols=4, spad_banks=4, post_lanes=1)


def run_cocotb(verilog: str, folder: Path) -> dict[str, bool]:
    """Simulate the tests of cocotb_accelerator.py; returns which of them passed."""
    runner = pytest.importorskip("cocotb_tools.runner")
    pytest.importorskip("cocotbext.axi")
    if shutil.which("iverilog") is None:
        pytest.skip("Icarus Verilog is not installed")
    program = matmul_program(CONFIG, seed=0)
    size = len(program.code)
    for name, image in (("memory", program.memory), ("expected", program.expected)):
        image[:size] = np.frombuffer(program.code, np.uint8)
        np.save(folder / f"{name}.npy", image)
    for name, value in (("count", len(program.instructions)), ("activations", ACTIVATIONS), ("outputs", OUTPUTS)):
        (folder / name).write_text(str(value))
    (folder / f"{TOP}.v").write_text(verilog)
    simulator = runner.get_runner("icarus")
    simulator.build(
        sources=[folder / f"{TOP}.v"], hdl_toplevel=TOP, build_dir=folder / "build", build_args=["-g2005"],
        timescale=("1ns", "1ps"),
    )  # fmt: skip
    tests = Path(__file__).resolve().parents[1]
    results = folder / "results.xml"
    with contextlib.suppress(SystemExit):  # the runner's way to say that a test failed
        simulator.test(
            hdl_toplevel=TOP,
            test_module="support.rtl.cocotb_accelerator",
            build_dir=folder / "build",
            test_dir=folder,
            results_xml=str(results),
            extra_env={
                "ACCEL_COCOTB_FOLDER": str(folder),
                "PYTHONPATH": os.pathsep.join([str(tests), str(tests.parent), os.environ.get("PYTHONPATH", "")]),
                "COCOTB_LOG_LEVEL": "ERROR",
            },
        )
    cases = ElementTree.parse(results).getroot().iter("testcase")
    return {case.attrib["name"]: case.find("failure") is None and case.find("error") is None for case in cases}


def test_outside_bus_model(tmp_path: Path) -> None:
    results = run_cocotb(emit(CONFIG, verification=True), tmp_path)
    assert results == dict.fromkeys(
        (
            "runs_twice",
            "runs_under_back_pressure",
            "reports_error_responses_and_recovers",
            "runs_cleanly_after_a_reset_in_mid_flight",
            "stops_at_any_time_under_back_pressure",
            "runs_from_an_image_anywhere",
        ),
        True,
    )


def test_catches_data_that_do_not_wait(tmp_path: Path) -> None:
    """A mutant whose write data do not look at WREADY passes without back-pressure only."""
    verilog = emit(CONFIG, verification=True)
    pin = ".beat__ready(store_wready)"
    assert verilog.count(pin) == 1
    results = run_cocotb(verilog.replace(pin, ".beat__ready(1'b1)"), tmp_path)
    assert results["runs_twice"]
    assert not results["runs_under_back_pressure"]

"""What an integrator gets: files of Verilog, constraints, core, registers, ports; two machines in one design."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.rtl.bench import small
from systemrdl import RDLCompiler
from systemrdl.rdltypes import OnWriteType

from accel.errors import ConfigError
from accel.machine.area import area
from accel.machine.config import TABLE_WORDS, ArchConfig
from accel.machine.registers import REGISTERS, reset_values
from rtl.axi import CACHE_MODIFIABLE_BUFFERABLE
from rtl.bundle import write_bundle
from rtl.bundle.drawing import block_diagram
from rtl.bundle.folder import HEAD, MANIFEST
from rtl.registers import ADDRESS_WIDTH
from rtl.testbench.verilate import verilator_root
from rtl.verilog import TOP, emit, top_name, write_verilog

pytestmark = pytest.mark.rtl

CONFIG = small(rows=2, cols=2, post_lanes=1, bus_bytes=4, depthwise_taps=1)
OTHER = small(rows=1, cols=1, post_lanes=1, bus_bytes=4)
BOTH = "module both(input clk, input rst); {} a(.clk(clk), .rst(rst)); {} b(.clk(clk), .rst(rst)); endmodule\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with a prefix."""
    target = tmp_path_factory.mktemp("bundle")
    write_bundle(CONFIG, target, "npu")
    return target


def elaborates(top: str, arguments: list[str], folder: Path) -> bool:
    """Whether Verilator elaborates `top`."""
    root = verilator_root()
    options = ["--lint-only", "-Wno-lint", "-Wno-style", "-Wno-fatal", "-Werror-MODDUP", "--top", top, *arguments]
    command, environment = [root / "bin" / "verilator_bin", *options], {"VERILATOR_ROOT": str(root)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False).returncode == 0


def test_the_file_list_elaborates(folder: Path) -> None:
    assert elaborates("npu_accelerator", ["-f", "npu_small.f"], folder)


def test_the_file_list_elaborates_from_elsewhere(folder: Path, tmp_path: Path) -> None:
    assert elaborates("npu_accelerator", ["-F", str(folder / "npu_small.f")], tmp_path)


def test_the_simulation_elaborates(folder: Path) -> None:
    simulation = ["--timing", "-f", "npu_small.f", "sim/axi_memory.v", "sim/testbench.v"]
    assert elaborates("npu_accelerator_testbench", simulation, folder)


def test_every_text_has_its_licence(folder: Path) -> None:
    """SVG, tables, the page and the configuration aside, which hold no code."""
    for path in folder.rglob("*"):
        if path.is_file() and path.name != MANIFEST and path.suffix not in (".svg", ".md", ".toml", ".f"):
            assert "SPDX-License-Identifier: Apache-2.0" in "".join(path.read_text().splitlines()[:2]), path
            assert not re.search(r"@\w+@", path.read_text()), path


def test_the_memories_are_those_of_the_machine(folder: Path) -> None:
    rows = re.findall(
        r"^\| `(\w+)` \| (\d+) \| (\d+) .* (\d+) \|", (folder / "npu_small.memories.md").read_text(), re.M
    )
    rams = [map(int, sizes) for name, *sizes in rows if name == "npu_accelerator_ram"]
    bits = sum(width * depth * count for width, depth, count in rams)
    lanes = CONFIG.post_lanes * TABLE_WORDS * 8
    assert bits == area(CONFIG).sram_bits + lanes - TABLE_WORDS * 8


def test_each_file_has_its_licence_and_fingerprint(folder: Path) -> None:
    files = list((folder / "rtl").iterdir())
    assert len(files) > 15
    for path in files:
        licence, _, fingerprint = path.read_text().splitlines()[:3]
        assert licence == "// SPDX-License-Identifier: Apache-2.0"
        assert fingerprint == f"// fingerprint {CONFIG.fingerprint()}"


def test_the_files_hold_the_modules_of_the_single_file_once(folder: Path) -> None:
    single = re.findall(r"^module .*?^endmodule$", emit(CONFIG, prefix="npu"), re.DOTALL | re.MULTILINE)
    text = "".join((folder / line).read_text() for line in (folder / "npu_small.f").read_text().splitlines())
    assert sorted(re.findall(r"^module .*?^endmodule$", text, re.DOTALL | re.MULTILINE)) == sorted(single)


def test_names_are_plain_and_have_the_prefix(folder: Path) -> None:
    text = "".join(path.read_text() for path in (folder / "rtl").iterdir())
    assert "\\" not in text
    assert all(name.startswith("npu_accelerator") for name in re.findall(r"^module (\w+)", text, re.MULTILINE))


@pytest.mark.slow
def test_two_machines_fit_into_one_design(tmp_path: Path) -> None:
    def together(*prefixes: str) -> bool:
        machines = [emit(config, prefix=prefix) for config, prefix in zip((CONFIG, OTHER), prefixes, strict=True)]
        (tmp_path / "both.v").write_text(BOTH.format(*map(top_name, prefixes)) + "".join(machines))
        return elaborates("both", ["both.v"], tmp_path)

    assert together("first", "second")
    assert not together("same", "same")


@pytest.mark.parametrize("prefix", ["1-x", "p" * 65])
@pytest.mark.parametrize("write", [write_verilog, write_bundle])
def test_a_bad_prefix_is_refused_before_anything_is_written(write: Any, prefix: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"^prefix must be 1 to 64 ASCII letters, .* got '{prefix}'$"):
        write(CONFIG, tmp_path / "out", prefix)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_longest_names_give_files(tmp_path: Path) -> None:
    write_bundle(replace(CONFIG, name="n" * 64), tmp_path, "p" * 64)
    assert elaborates(f"{'p' * 64}_accelerator", ["-f", f"{'p' * 64}_{'n' * 64}.f"], tmp_path)


def test_the_page_tells_the_size_of_the_register_window(folder: Path) -> None:
    page = (folder / "README.md").read_text()
    assert f"The registers take {1 << ADDRESS_WIDTH} bytes" in page
    assert f"are offsets of {ADDRESS_WIDTH} bits" in page


def test_the_page_tells_what_the_buses_say_of_caches(folder: Path) -> None:
    text = (folder / "README.md").read_text()
    assert f"AxCACHE is 0b{CACHE_MODIFIABLE_BUFFERABLE:04b} (modifiable, bufferable)" in text


@pytest.mark.parametrize("taps", [0, 1])
def test_the_diagram_shows_the_units_that_the_machine_has(taps: int) -> None:
    drawn = block_diagram(small(depthwise_taps=taps), "npu_small")
    assert "npu_small" in drawn
    assert [unit in drawn for unit in ("TAPS", "DEPTHWISE", "POST")] == [taps > 0, taps > 0, True]


def test_the_manifest_lists_all_files(folder: Path) -> None:
    found = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    assert (folder / MANIFEST).read_text() == HEAD + "".join(f"{name}\n" for name in found)


def test_the_core_names_files_that_exist(folder: Path) -> None:
    core = yaml.safe_load((folder / "npu_small.core").read_text().removeprefix("CAPI=2:\n"))
    files = core["filesets"]["rtl"]["files"]
    assert files == (folder / "npu_small.f").read_text().split()
    assert all((folder / path).is_file() for path in [*files, *core["filesets"]["simulation"]["files"]])
    assert core["targets"]["default"] == {"filesets": ["rtl"], "toplevel": "npu_accelerator"}
    assert core["targets"]["alone"] == {"filesets": ["rtl", "constraints"], "toplevel": "npu_accelerator"}
    assert core["targets"]["sim"]["toplevel"] == "npu_accelerator_testbench"


RDL_ACCESS = {
    "constant": (True, False, None, False),
    "ro": (True, False, None, True),
    "rw": (True, True, None, False),
    "w1c": (True, True, OnWriteType.woclr, True),
    "w1p": (False, True, None, True),
}
"""Whether software reads and writes it, what a write does, whether the machine changes it."""


def test_the_register_description_is_the_register_map(folder: Path) -> None:
    compiler = RDLCompiler()
    compiler.compile_file(str(folder / "npu_small.rdl"))
    registers = {node.inst_name: node for node in compiler.elaborate().top.registers()}
    assert {name: node.absolute_address for name, node in registers.items()} == {
        name: register.address for name, register in REGISTERS.items()
    }
    resets = reset_values(CONFIG)
    for name, node in registers.items():
        found = {field.inst_name: field for field in node.fields()}
        assert list(found) == [field.name for field in REGISTERS[name].fields]
        for field in REGISTERS[name].fields:
            rdl = found[field.name]
            assert (rdl.low, rdl.width) == (field.low, field.width)
            assert rdl.get_property("reset") << field.low == resets[name] & field.mask
            properties = (rdl.is_sw_readable, rdl.is_sw_writable, rdl.get_property("onwrite"), rdl.is_volatile)
            assert properties == RDL_ACCESS[field.access], (name, field.name)
            assert rdl.get_property("singlepulse") == (field.access == "w1p")


def stub(folder: Path) -> tuple[str, list[tuple[str, str, str]]]:
    """The top module with ports and nothing else; direction, highest bit and name of each port."""
    verilog = (folder / "rtl" / "npu_accelerator.v").read_text()
    head = re.findall(r"^module npu_accelerator\(.*?\);$", verilog, re.DOTALL | re.MULTILINE)[0]
    declarations = re.findall(r"^  ((input|output) (?:\[(\d+):0\] )?(\w+);)$", verilog, re.MULTILINE)
    text = "\n".join([head, *(declaration for declaration, *_ in declarations), "endmodule\n"])
    return text, [(direction, high, name) for _, direction, high, name in declarations]


def test_every_port_but_the_clock_has_one_delay(folder: Path) -> None:
    """By commands that timing analysers have in common; patterns for vectors, as a vector's name is not its bits'."""
    delay = f"{0.3 * 1000 / CONFIG.clock_mhz:.3f}"
    lines = (folder / "npu_small.sdc").read_text().splitlines()[3:]
    assert sorted(lines) == sorted(
        f"set_{direction}_delay -clock clk {delay} [get_ports {{{name}{'[*]' if high else ''}}}]"
        for direction, high, name in stub(folder)[1]
        if name != "clk"
    )


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("sta") is None, reason="needs OpenSTA")
def test_opensta_finds_a_delay_at_every_port(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "stub.v").write_text(stub(folder)[0])
    (tmp_path / "none.lib").write_text("library(none) { delay_model : table_lookup; time_unit : 1ns; }\n")
    script = ["read_liberty none.lib", "read_verilog stub.v", "link_design npu_accelerator"]

    def checked(constraints: str) -> str:
        (tmp_path / "tried.sdc").write_text(constraints)
        checks = ["read_sdc tried.sdc", "check_setup -verbose -no_input_delay -no_clock", "puts checked"]
        (tmp_path / "script.tcl").write_text("\n".join([*script, *checks]))
        done = subprocess.run(
            ["sta", "-no_splash", "-exit", "script.tcl"], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        return done.stdout + "".join(line for line in done.stderr.splitlines(True) if "none.lib" not in line)

    constraints = (folder / "npu_small.sdc").read_text()
    assert checked(constraints) == "checked\n"
    lines = constraints.splitlines(keepends=True)
    for missing in (line for line in lines if line.startswith("set_input_delay")):
        assert "missing set_input_delay" in checked(constraints.replace(missing, ""))


def test_constraints_and_ports(folder: Path) -> None:
    period = 1000 / CONFIG.clock_mhz
    assert f"-period {period:.3f} [get_ports clk]" in (folder / "npu_small.sdc").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (\d+) \|$", (folder / "npu_small.ports.md").read_text(), re.MULTILINE)
    ports = {name: (direction, int(bits)) for name, direction, bits in rows}
    assert ports["clk"] == ports["rst"] == ("input", 1)
    assert ports["store_wdata"] == ("output", 8 * CONFIG.bus_bytes)
    assert ArchConfig.from_toml((folder / "npu_small.toml").read_text()) == CONFIG
    header = emit(CONFIG).split(f"module {TOP}(")[1].split(")")[0]
    assert sorted(ports) == sorted(name.strip() for name in header.split(","))

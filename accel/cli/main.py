"""The command line. Exit codes: 0 ok, 1 a mismatch was found, 2 bad input."""

from __future__ import annotations

import click

from accel import __version__
from accel.cli import execute, explore, make, measure, show, training
from accel.cli.console import Group
from accel.cli.relations import keeping_files


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="accel")
def main() -> None:
    """INT8 accelerator toolchain: quantize, compile, simulate, generate Verilog, and prove that they agree.

    A MODEL is a program, an integer graph, a .tflite file or a quantized .onnx file; commands that need a program
    compile the others first.
    """


for module in (execute, explore, make, measure, show, training):
    for command in module.COMMANDS:
        main.add_command(keeping_files(command))

"""INT8 accelerator toolchain: float network to integers, to programs, to exact cycles, to Verilog that agrees.

The names below are imported when they are first used, so that `import accel` stays instant.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from accel.analysis import Analysis, analyze
    from accel.api import Estimate, RunResult, compile, estimate, load, load_program, run, verilog
    from accel.coverify import Verification, VerificationError, verify
    from accel.errors import AccelError
    from accel.evaluation import Evaluation, evaluate
    from accel.exports import export
    from accel.frontends import load_model
    from accel.machine.config import ArchConfig, load_config, preset
    from accel.network.graph import Graph
    from accel.network.graph_file import load_graph, save_graph
    from accel.network.real import dequantize_output, quantize_input
    from accel.program.program import Program
    from accel.quantizer import quantize

__version__ = "0.1.0"

_EXPORTS = {
    "AccelError": "accel.errors",
    "Analysis": "accel.analysis",
    "ArchConfig": "accel.machine.config",
    "Evaluation": "accel.evaluation",
    "Estimate": "accel.api",
    "Graph": "accel.network.graph",
    "Program": "accel.program.program",
    "RunResult": "accel.api",
    "Verification": "accel.coverify",
    "VerificationError": "accel.coverify",
    "analyze": "accel.analysis",
    "compile": "accel.api",
    "dequantize_output": "accel.network.real",
    "evaluate": "accel.evaluation",
    "estimate": "accel.api",
    "export": "accel.exports",
    "load": "accel.api",
    "load_config": "accel.machine.config",
    "load_graph": "accel.network.graph_file",
    "load_model": "accel.frontends",
    "load_program": "accel.api",
    "preset": "accel.machine.config",
    "quantize": "accel.quantizer",
    "quantize_input": "accel.network.real",
    "run": "accel.api",
    "save_graph": "accel.network.graph_file",
    "verify": "accel.coverify",
    "verilog": "accel.api",
}

__all__ = [
    "AccelError",
    "Analysis",
    "ArchConfig",
    "Estimate",
    "Evaluation",
    "Graph",
    "Program",
    "RunResult",
    "Verification",
    "VerificationError",
    "analyze",
    "compile",
    "dequantize_output",
    "estimate",
    "evaluate",
    "export",
    "load",
    "load_config",
    "load_graph",
    "load_model",
    "load_program",
    "preset",
    "quantize",
    "quantize_input",
    "run",
    "save_graph",
    "verify",
    "verilog",
]


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module 'accel' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_EXPORTS])

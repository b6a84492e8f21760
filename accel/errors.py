"""The one exception tree of the package: every error that users can cause is an `AccelError` of one clear sentence."""

from __future__ import annotations

import re
from pathlib import Path

LONGEST_MESSAGE = 400
_NOISE = re.compile(
    "|".join(
        (
            r"^\[ONNXRuntimeError\] : \d+ : \w+ : ",
            r"Non-zero status code returned while running \w+ node\. ",
            r"Name:'[^']*' ",
            r"Status Message: ",
            r"\[(Shape|Type)InferenceError\] |Inference error\(s\): ",
            r"Node \([^)]*\) Op \([^)]*\) ",
            r"\S+\.(cc|h):\d+ (\S+::\S+\(.*?\)( const)? |Compute )?",
            r"\S+ == \S+ was false\. ",
            r"Node number \d+ .*",
        )
    )
)
"""What other programs' messages have around their reason: codes, places in their sources, numbers of nodes."""


def reason(error: object) -> str:
    """Why another program refuses, in one line: the first of its message, without what only its authors understand."""
    lines = str(error).strip().splitlines()
    return brief(_NOISE.sub("", lines[0]).strip().rstrip(".")) if lines else type(error).__name__


def brief(error: object) -> str:
    """A message without its middle if a damaged file makes it too long for a sentence."""
    text, half = str(error), LONGEST_MESSAGE // 2
    return text if len(text) <= LONGEST_MESSAGE else f"{text[:half]} ... {text[-half:]}"


class AccelError(Exception):
    """Base of all errors that a user's input can cause; the command line prints it and exits with code 2."""


class ConfigError(AccelError):
    """An architecture configuration is impossible, incomplete or has keys that do not exist."""


class EncodingError(AccelError):
    """An instruction field is out of its range, or a word does not decode."""


class ProgramError(AccelError):
    """A program file is damaged, made for another machine, or breaks a contract that `accel check` proves."""


class GraphError(AccelError):
    """A graph or graph file is malformed."""


class ModelError(AccelError):
    """A model file cannot be read or uses something that is not supported."""


class ExportError(AccelError):
    """A graph holds something that the format of an export cannot express, or a rule of that format is broken."""


class CompileError(AccelError):
    """A graph cannot be mapped onto the configured machine."""


class InputError(AccelError):
    """An input array, file or option has the wrong shape, type or value."""


class ToolError(AccelError):
    """An outside tool (Verilator, Icarus, a C++ compiler) is missing or failed."""


class DivergenceError(AccelError):
    """Simulator and Verilog (or an outside runtime) differ; the command line exits with code 1."""


def unreadable_arrays(path: Path, error: Exception) -> InputError:
    """The sentence for a .npy or .npz file that NumPy or zipfile refuses: they raise half a dozen types."""
    if isinstance(error, OSError):
        return InputError(f"{path}: must be a readable .npy or .npz file, got {error.strerror or error}")
    if not path.stat().st_size:
        found = "an empty file"
    elif "Object arrays" in str(error) or "Python objects" in str(error):
        found = "Python objects"
    else:
        found = "another format, or a damaged or incomplete file"
    return InputError(
        f"{path}: must be a .npy or .npz file of numbers, got {found}; write it with numpy.save or numpy.savez"
    )

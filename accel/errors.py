"""The one exception tree of the package: every error that users can cause is an `AccelError` of one clear sentence."""

from __future__ import annotations

LONGEST_MESSAGE = 400


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

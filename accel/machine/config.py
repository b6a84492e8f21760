"""`ArchConfig`: every parameter of the machine, in one frozen and validated record.

Examples
--------
>>> from accel.machine.config import preset
>>> preset("edge").rows
16
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accel.errors import ConfigError, brief

REQUANT_MODES = ("tflite", "single", "fp32")
PARAM_RECORD_BYTES = 9
"""Bytes of one channel's record in the parameter memory: bias int32, multiplier int32, shift int8, little-endian."""
TABLES = 2
"""Look-up tables that POST may apply to its results."""
TABLE_ENTRIES = 256
"""Entries of a table, int8 each: entry q + 128 replaces q."""
TABLE_WORDS = TABLES * TABLE_ENTRIES
"""Words of the table memory."""
CLOCK_MHZ = 500
"""Clock of reports unless a configuration names its own: that of Vela's system configuration of Ethos-U55."""


@dataclass(frozen=True, kw_only=True)
class ArchConfig:
    """One machine: sizes of its array, memories, queues and buses, and the external memory it is timed against.

    Parameters
    ----------
    name : str
        Label for reports, and part of names of files: 1 to 64 ASCII letters, digits and underscores, not a digit first.
    rows, cols : int
        Systolic array, 1..128 each; one divides the other. `rows` is the contraction, `cols` the output channels.
    spad_banks, spad_bank_words : int
        Scratchpad: banks (1..64) of words (a power of two) of `rows` int8.
    wbuf_words : int
        Weight buffer: words (a power of two) of `cols` int8.
    acc_banks, acc_bank_words : int
        Accumulators: banks (1..16) of words (a power of two) of `cols` int32.
    param_channels : int
        Parameter memory: channel records (a power of two, at least 4 * `cols`).
    post_lanes : int
        Outputs post-processed per cycle; a power of two that divides min(rows, cols).
    depthwise_taps : int
        Multipliers per channel of the depthwise engine (1..7; `rows` must then be at least 2), 0 for no engine.
    depthwise_words : int
        Tap memory of that engine: words (a power of two) of min(rows, cols) int8; without an engine there is none.
    queue_depth : int
        Instructions that each unit's queue holds (2..64).
    bus_bytes : int
        Bytes per beat of every AXI4 master: 4, 8, 16, 32 or 64.
    outstanding_bursts : int
        Bursts that each master may have in flight (1..64).
    read_latency_cycles, write_latency_cycles : int
        External memory: address handshake to first data beat; last data beat to response (1..4095).
    requant_modes : tuple of str
        Requantization modes built into the post unit: some of "tflite", "single", "fp32".
    int4_weights : bool
        The array takes weights of 4 bits, too, two rows from each word of the weight buffer.
    clock_mhz : float
        Clock that reports turn cycles into seconds with (0.001..100000); no part of the machine and its fingerprint.

    Raises
    ------
    ConfigError
        A value is out of its range; the message names the key, what is expected and what came.
    """

    name: str
    rows: int
    cols: int
    spad_banks: int
    spad_bank_words: int
    wbuf_words: int
    acc_banks: int
    acc_bank_words: int
    param_channels: int
    post_lanes: int
    depthwise_taps: int
    depthwise_words: int
    queue_depth: int
    bus_bytes: int
    outstanding_bursts: int
    read_latency_cycles: int
    write_latency_cycles: int
    requant_modes: tuple[str, ...]
    int4_weights: bool
    clock_mhz: float = CLOCK_MHZ

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not re.fullmatch(NAME, self.name):
            raise ConfigError(f"name must be {NAME_RULE}, got {brief(repr(self.name))}")
        for key, low, high in _RANGES:
            _check_int(key, getattr(self, key), low, high)
        for key in ("spad_bank_words", "wbuf_words", "acc_bank_words", "param_channels", "depthwise_words"):
            value = getattr(self, key)
            if value & (value - 1):
                raise ConfigError(f"{key} must be a power of two, got {value}")
        if self.rows % self.cols and self.cols % self.rows:
            raise ConfigError(f"one of rows and cols must divide the other, got rows = {self.rows}, cols = {self.cols}")
        if min(self.rows, self.cols) % self.post_lanes or self.post_lanes & (self.post_lanes - 1):
            raise ConfigError(
                f"post_lanes must be a power of two that divides min(rows, cols) = {min(self.rows, self.cols)}, "
                f"got {self.post_lanes}"
            )
        if self.depthwise_taps and self.rows < 2:
            raise ConfigError(f"rows must be at least 2 with depthwise_taps > 0, got {self.rows}")
        if self.param_channels < 4 * self.cols:
            raise ConfigError(f"param_channels must be at least 4 * cols = {4 * self.cols}, got {self.param_channels}")
        if self.wbuf_words < 2 * self.rows:
            raise ConfigError(f"wbuf_words must be at least 2 * rows = {2 * self.rows}, got {self.wbuf_words}")
        if self.spad_words > MAX_WORDS:
            raise ConfigError(f"spad_banks * spad_bank_words must be at most {MAX_WORDS}, got {self.spad_words}")
        if self.bus_bytes & (self.bus_bytes - 1):
            raise ConfigError(f"bus_bytes must be 4, 8, 16, 32 or 64, got {self.bus_bytes}")
        self._check_modes()
        if type(self.int4_weights) is not bool:
            raise ConfigError(f"int4_weights must be true or false, got {_short(self.int4_weights)}")
        clock = self.clock_mhz
        if type(clock) not in (int, float) or not 0.001 <= clock <= 100_000:
            raise ConfigError(f"clock_mhz must be a number in 0.001..100000, got {_short(clock)}")

    def _check_modes(self) -> None:
        modes = self.requant_modes
        known = isinstance(modes, tuple) and modes and all(mode in REQUANT_MODES for mode in modes)
        if not known or len(set(modes)) != len(modes):
            raise ConfigError(f"requant_modes must be some of {', '.join(REQUANT_MODES)}, each once, got {modes!r}")
        object.__setattr__(self, "requant_modes", tuple(mode for mode in REQUANT_MODES if mode in modes))

    @property
    def spad_words(self) -> int:
        """Words of the scratchpad, all banks."""
        return self.spad_banks * self.spad_bank_words

    @property
    def acc_words(self) -> int:
        """Words of the accumulator memory, all banks."""
        return self.acc_banks * self.acc_bank_words

    @property
    def param_rows(self) -> int:
        """Rows of `post_lanes` channel records in the parameter memory."""
        return self.param_channels // self.post_lanes

    @property
    def load_word_bytes(self) -> int:
        """Widest word that LOAD writes, in bytes."""
        return max(self.rows, self.cols, PARAM_RECORD_BYTES)

    @property
    def depthwise_lanes(self) -> int:
        """Channels that the depthwise engine works on at a time; 0 without an engine."""
        return min(self.rows, self.cols) if self.depthwise_taps else 0

    @property
    def depthwise_multipliers(self) -> int:
        """8 x 8 bit multipliers of the depthwise engine; the array has `rows * cols`."""
        return self.depthwise_lanes * self.depthwise_taps

    @property
    def depthwise_register_bits(self) -> int:
        """Registers of the depthwise engine's lanes, in bits (docs/presets.md)."""
        # Window, weight, shadow, factor and product of each slot; a weight that arrives, what is done with it; sum.
        slots = (4 * 8 + 16) * self.depthwise_taps
        return self.depthwise_lanes * (slots + 8 + 3 + 15 + self.depthwise_taps.bit_length())

    def to_toml(self) -> str:
        """The configuration as TOML text, keys in declaration order, one trailing newline."""
        return "".join(f"{key} = {_toml(value)}\n" for key, value in dataclasses.asdict(self).items())

    @classmethod
    def from_toml(cls, text: str, where: str = "configuration") -> ArchConfig:
        """Parse the text that `to_toml` writes.

        Parameters
        ----------
        text : str
            TOML with exactly the keys of this class; `clock_mhz` may be left out.
        where : str
            Name of the source for error messages.

        Raises
        ------
        ConfigError
            Not TOML, an unknown or a missing key (by name), or a value out of range.
        """
        try:
            table: dict[str, Any] = tomllib.loads(text)
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"{where}: must be TOML, got an error: {error}") from None
        names = [field.name for field in dataclasses.fields(cls)]
        unknown = [key for key in table if key not in names]
        missing = [key for key in names if key not in table and key != "clock_mhz"]
        if unknown:
            raise ConfigError(f"{where}: unknown key {unknown[0]!r}; known keys are {', '.join(names)}")
        if missing:
            raise ConfigError(f"{where}: missing key {missing[0]!r}; add a line '{missing[0]} = ...'")
        if isinstance(table["requant_modes"], list):
            table["requant_modes"] = tuple(table["requant_modes"])
        try:
            return cls(**table)
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from None

    def fingerprint(self) -> str:
        """SHA-256 (64 hexadecimal digits) of the canonical TOML without name and clock."""
        lines = self.to_toml().splitlines(True)
        body = "".join(line for line in lines if not line.startswith(("name = ", "clock_mhz = ")))
        return hashlib.sha256(body.encode()).hexdigest()


MAX_NAME = 64
"""Longest name, and longest prefix of names in Verilog: names of files hold both, and a part of the machine's."""

NAME = rf"[A-Za-z_][A-Za-z0-9_]{{0,{MAX_NAME - 1}}}"
"""What a name, and a prefix, must match."""

NAME_RULE = f"1 to {MAX_NAME} ASCII letters, digits and underscores, not a digit first"
"""`NAME` in words."""

MAX_WORDS = 1 << 18
"""Largest number of words in any on-chip memory: the width of the address fields in `accel.machine.isa`."""

MAX_TAPS = 7
"""Most multipliers of a depthwise lane: one less than a power of two, as a rule of DEPTHWISE is cheap in gates then."""

_RANGES = (
    ("rows", 1, 128),
    ("cols", 1, 128),
    ("spad_banks", 1, 64),
    ("spad_bank_words", 8, MAX_WORDS),
    ("wbuf_words", 8, MAX_WORDS),
    ("acc_banks", 1, 16),
    ("acc_bank_words", 1, 1 << 14),
    ("param_channels", 4, 1 << 14),
    ("post_lanes", 1, 128),
    ("depthwise_taps", 0, MAX_TAPS),
    ("depthwise_words", 8, MAX_WORDS),
    ("queue_depth", 2, 64),
    ("bus_bytes", 4, 64),
    ("outstanding_bursts", 1, 64),
    ("read_latency_cycles", 1, 4095),
    ("write_latency_cycles", 1, 4095),
)


def _check_int(key: str, value: object, low: int, high: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ConfigError(f"{key} must be an integer in {low}..{high}, got {_short(value)}")


def _short(value: object) -> str:
    """A value for an error message; integers of thousands of digits have no decimal text."""
    return repr(value) if not isinstance(value, int) or abs(value) < 1 << 64 else f"{hex(value)[:20]}..."


def _toml(value: object) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(f'"{item}"' for item in value) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return f'"{value}"' if isinstance(value, str) else str(value)


PRESETS: dict[str, ArchConfig] = {
    config.name: config
    for config in (
        ArchConfig(
            name="tiny", rows=4, cols=4, spad_banks=4, spad_bank_words=2048, wbuf_words=2048, acc_banks=4,
            acc_bank_words=128, param_channels=256, post_lanes=4, depthwise_taps=3, depthwise_words=128, bus_bytes=8,
            outstanding_bursts=4, read_latency_cycles=16, write_latency_cycles=8, queue_depth=8,
            requant_modes=REQUANT_MODES, int4_weights=True,
        ),
        ArchConfig(
            name="edge", rows=16, cols=16, spad_banks=8, spad_bank_words=2048, wbuf_words=4096, acc_banks=4,
            acc_bank_words=256, param_channels=512, post_lanes=16, depthwise_taps=5, depthwise_words=256, bus_bytes=16,
            outstanding_bursts=8, read_latency_cycles=32, write_latency_cycles=16, queue_depth=8,
            requant_modes=REQUANT_MODES, int4_weights=True,
        ),
        ArchConfig(
            name="large", rows=32, cols=32, spad_banks=8, spad_bank_words=4096, wbuf_words=8192, acc_banks=4,
            acc_bank_words=512, param_channels=1024, post_lanes=32, depthwise_taps=5, depthwise_words=512, bus_bytes=32,
            outstanding_bursts=16, read_latency_cycles=64, write_latency_cycles=32, queue_depth=8,
            requant_modes=REQUANT_MODES, int4_weights=True,
        ),
        ArchConfig(
            name="datacenter", rows=128, cols=128, spad_banks=16, spad_bank_words=8192, wbuf_words=16384, acc_banks=4,
            acc_bank_words=2048, param_channels=4096, post_lanes=128, depthwise_taps=5, depthwise_words=1024,
            bus_bytes=64, outstanding_bursts=32, read_latency_cycles=128, write_latency_cycles=64, queue_depth=16,
            requant_modes=REQUANT_MODES, int4_weights=True,
        ),
    )
}  # fmt: skip


def preset(name: str) -> ArchConfig:
    """The named preset; ConfigError lists the names if there is none."""
    if name not in PRESETS:
        raise ConfigError(f"config must be one of {', '.join(PRESETS)} or a TOML file, got {name!r}")
    return PRESETS[name]


def load_config(name_or_path: str) -> ArchConfig:
    """A preset by name, or a TOML file by path.

    Raises
    ------
    ConfigError
        No such preset or file, or the file is not a valid configuration.
    """
    path = Path(name_or_path)
    if name_or_path in PRESETS:
        return PRESETS[name_or_path]
    if not path.is_file():
        return preset(name_or_path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: must be a readable TOML text file, got {error}") from None
    return ArchConfig.from_toml(text, str(path))

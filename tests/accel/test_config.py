"""`ArchConfig`: every range, the TOML form, fingerprints, presets; whole messages."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.machine.random_programs import random_config

from accel.errors import ConfigError
from accel.machine.config import MAX_WORDS, PRESETS, ArchConfig, load_config, preset

EDGE = PRESETS["edge"]
KEYS = [field.name for field in dataclasses.fields(ArchConfig)]


def message(call: Any, *args: Any, **fields: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        call(*args, **fields)
    return str(caught.value)


@given(st.integers(0, 2**32 - 1))
def test_toml_round_trip(seed: int) -> None:
    config = random_config(np.random.default_rng(seed))
    text = config.to_toml()
    again = ArchConfig.from_toml(text)
    assert again == config
    assert again.to_toml() == text
    assert again.fingerprint() == config.fingerprint()
    assert text.endswith("\n")
    assert [line.split(" = ")[0] for line in text.splitlines()] == KEYS


def test_toml_of_a_preset() -> None:
    assert PRESETS["tiny"].to_toml() == (
        'name = "tiny"\nrows = 4\ncols = 4\nspad_banks = 4\nspad_bank_words = 2048\nwbuf_words = 2048\nacc_banks = 4\n'
        "acc_bank_words = 128\nparam_channels = 256\npost_lanes = 4\ndepthwise_taps = 3\ndepthwise_words = 128\n"
        "queue_depth = 8\nbus_bytes = 8\noutstanding_bursts = 4\nread_latency_cycles = 16\nwrite_latency_cycles = 8\n"
        'requant_modes = ["tflite", "single", "fp32"]\nint4_weights = true\nclock_mhz = 500\n'
    )


def test_order_of_keys_and_comments_do_not_matter() -> None:
    lines = EDGE.to_toml().splitlines()
    assert ArchConfig.from_toml("# mine\n" + "\n".join(reversed(lines))) == EDGE


def test_fingerprints_are_stable() -> None:
    """Programs and Verilog carry them: a change makes all existing files unusable."""
    assert {name: config.fingerprint()[:16] for name, config in PRESETS.items()} == FINGERPRINTS


FINGERPRINTS = {
    "tiny": "1cada23403225bfc",
    "edge": "a9869721902a0945",
    "large": "99b5ce4fb047be34",
    "datacenter": "3e2569d218255493",
}


def test_fingerprint_covers_everything_but_name_and_clock() -> None:
    assert replace(EDGE, name="other", clock_mhz=12.5).fingerprint() == EDGE.fingerprint()
    assert replace(EDGE, requant_modes=("fp32", "tflite", "single")).fingerprint() == EDGE.fingerprint()
    changes: dict[str, Any] = {
        "rows": 32, "cols": 32, "spad_banks": 9, "spad_bank_words": 4096, "wbuf_words": 8192, "acc_banks": 3,
        "acc_bank_words": 512, "param_channels": 1024, "post_lanes": 8, "depthwise_taps": 4, "depthwise_words": 512,
        "queue_depth": 9, "bus_bytes": 32, "outstanding_bursts": 9, "read_latency_cycles": 33,
        "write_latency_cycles": 17, "requant_modes": ("fp32",), "int4_weights": False,
    }  # fmt: skip
    assert ["name", *changes, "clock_mhz"] == KEYS
    prints = {replace(EDGE, **{key: value}).fingerprint() for key, value in changes.items()}
    assert len(prints | {EDGE.fingerprint()}) == len(changes) + 1


def test_presets_are_valid_and_named_by_their_key() -> None:
    assert list(PRESETS) == ["tiny", "edge", "large", "datacenter"]
    assert [(c.rows, c.cols) for c in PRESETS.values()] == [(4, 4), (16, 16), (32, 32), (128, 128)]
    for name, config in PRESETS.items():
        assert config.name == name
        assert preset(name) is config is load_config(name)


def test_derived_sizes() -> None:
    assert (EDGE.spad_words, EDGE.acc_words, EDGE.param_rows, EDGE.load_word_bytes) == (16384, 1024, 32, 16)
    assert PRESETS["tiny"].load_word_bytes == 9
    assert (EDGE.depthwise_lanes, EDGE.depthwise_multipliers) == (16, 80)
    assert replace(EDGE, depthwise_taps=0).depthwise_lanes == 0
    assert replace(EDGE, cols=4, post_lanes=4).depthwise_lanes == 4


RANGES = {
    "rows": (1, 128), "cols": (1, 128), "spad_banks": (1, 64), "spad_bank_words": (8, MAX_WORDS),
    "wbuf_words": (8, MAX_WORDS), "acc_banks": (1, 16), "acc_bank_words": (1, 1 << 14),
    "param_channels": (4, 1 << 14), "post_lanes": (1, 128), "depthwise_taps": (0, 7), "depthwise_words": (8, MAX_WORDS),
    "queue_depth": (2, 64), "bus_bytes": (4, 64), "outstanding_bursts": (1, 64), "read_latency_cycles": (1, 4095),
    "write_latency_cycles": (1, 4095),
}  # fmt: skip


def with_value(key: str, value: int) -> ArchConfig:
    """A configuration in which `key` may take its extreme values."""
    around: dict[str, Any] = {"rows": 1, "cols": 1, "spad_banks": 1, "post_lanes": 1, "depthwise_taps": 0}
    around |= {"rows": {"cols": 1}, "cols": {"rows": 1, "param_channels": 4096}, "depthwise_taps": {"rows": 16}}.get(
        key, {}
    )
    if key == "post_lanes":
        around |= {"rows": value, "cols": value, "param_channels": 4096}
    return replace(EDGE, **{**around, key: value})


@pytest.mark.parametrize("key", RANGES)
def test_every_range_ends_where_it_says(key: str) -> None:
    low, high = RANGES[key]
    for value in (low, high):
        assert getattr(with_value(key, value), key) == value
    for bad in (low - 1, high + 1, -1, 2.0, True, "16", None, 10**5000):
        shown = f"{hex(10**5000)[:20]}..." if bad == 10**5000 else repr(bad)
        assert message(replace, EDGE, **{key: bad}) == f"{key} must be an integer in {low}..{high}, got {shown}"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"rows": 6}, "one of rows and cols must divide the other, got rows = 6, cols = 16"),
        ({"post_lanes": 5}, "post_lanes must be a power of two that divides min(rows, cols) = 16, got 5"),
        ({"post_lanes": 32}, "post_lanes must be a power of two that divides min(rows, cols) = 16, got 32"),
        ({"spad_bank_words": 1000}, "spad_bank_words must be a power of two, got 1000"),
        ({"wbuf_words": 12}, "wbuf_words must be a power of two, got 12"),
        ({"acc_bank_words": 3}, "acc_bank_words must be a power of two, got 3"),
        ({"depthwise_words": 9}, "depthwise_words must be a power of two, got 9"),
        ({"rows": 1, "cols": 1, "post_lanes": 1},
         "rows must be at least 2 with depthwise_taps > 0, got 1"),
        ({"param_channels": 96}, "param_channels must be a power of two, got 96"),
        ({"param_channels": 32}, "param_channels must be at least 4 * cols = 64, got 32"),
        ({"wbuf_words": 16}, "wbuf_words must be at least 2 * rows = 32, got 16"),
        ({"spad_bank_words": 1 << 17}, "spad_banks * spad_bank_words must be at most 262144, got 1048576"),
        ({"bus_bytes": 12}, "bus_bytes must be 4, 8, 16, 32 or 64, got 12"),
        ({"requant_modes": ()}, "requant_modes must be some of tflite, single, fp32, each once, got ()"),
        ({"requant_modes": ("tflite", "tflite")},
         "requant_modes must be some of tflite, single, fp32, each once, got ('tflite', 'tflite')"),
        ({"requant_modes": ("double",)},
         "requant_modes must be some of tflite, single, fp32, each once, got ('double',)"),
        ({"requant_modes": "tflite"}, "requant_modes must be some of tflite, single, fp32, each once, got 'tflite'"),
        ({"requant_modes": (["tflite"],)},
         "requant_modes must be some of tflite, single, fp32, each once, got (['tflite'],)"),
        ({"int4_weights": 1}, "int4_weights must be true or false, got 1"),
        ({"int4_weights": "true"}, "int4_weights must be true or false, got 'true'"),
        ({"clock_mhz": 0}, "clock_mhz must be a number in 0.001..100000, got 0"),
        ({"clock_mhz": float("nan")}, "clock_mhz must be a number in 0.001..100000, got nan"),
        ({"clock_mhz": True}, "clock_mhz must be a number in 0.001..100000, got True"),
        ({"clock_mhz": "1 GHz"}, "clock_mhz must be a number in 0.001..100000, got '1 GHz'"),
        ({"name": "4x4"}, "name must be 1 to 64 ASCII letters, digits and underscores, not a digit first, got '4x4'"),
        ({"name": "é"}, "name must be 1 to 64 ASCII letters, digits and underscores, not a digit first, got 'é'"),
        ({"name": "a\n"}, "name must be 1 to 64 ASCII letters, digits and underscores, not a digit first, got 'a\\n'"),
        ({"name": ""}, "name must be 1 to 64 ASCII letters, digits and underscores, not a digit first, got ''"),
        (
            {"name": "a" * 65},
            f"name must be 1 to 64 ASCII letters, digits and underscores, not a digit first, got '{'a' * 65}'",
        ),
        ({"name": 3}, "name must be 1 to 64 ASCII letters, digits and underscores, not a digit first, got 3"),
    ],
)  # fmt: skip
def test_impossible_machines_are_refused(changes: dict[str, Any], expected: str) -> None:
    assert message(replace, EDGE, **changes) == expected


def test_unknown_and_missing_keys_are_refused_by_name() -> None:
    text = EDGE.to_toml()
    known = ", ".join(KEYS)
    assert message(ArchConfig.from_toml, text + "colour = 1\n", "my.toml") == (
        f"my.toml: unknown key 'colour'; known keys are {known}"
    )
    for key in set(KEYS) - {"clock_mhz"}:
        without = "".join(line for line in text.splitlines(True) if not line.startswith(f"{key} = "))
        assert message(ArchConfig.from_toml, without) == (
            f"configuration: missing key '{key}'; add a line '{key} = ...'"
        )


def test_the_clock_may_be_left_out_and_have_a_fraction() -> None:
    assert ArchConfig.from_toml(EDGE.to_toml().replace("clock_mhz = 500\n", "")) == EDGE
    slow = replace(EDGE, clock_mhz=43.5)
    assert ArchConfig.from_toml(slow.to_toml()) == slow


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("rows = \n", "x: must be TOML, got an error: "),
        ("rows = 1\nrows = 2\n", "x: must be TOML, got an error: "),
        ("rows = " + "9" * 5000, "x: must be TOML, got an error: "),
        ("rows = " + "[" * 5000, "x: must be TOML, got an error: "),
        (EDGE.to_toml().replace("rows = 16", "rows = 0x" + "f" * 5000), "x: rows must be an integer in 1..128, got 0x"),
        (EDGE.to_toml().replace("rows = 16", "rows = 1979-05-27"), "x: rows must be an integer in 1..128, got "),
        (EDGE.to_toml().replace('["tflite"', '[["tflite"]'), "x: requant_modes must be some of "),
    ],
)
def test_other_text_is_refused(text: str, start: str) -> None:
    assert message(ArchConfig.from_toml, text, "x").startswith(start)


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(EDGE.to_toml())
    assert load_config(str(path)) == EDGE
    assert message(load_config, "huge") == (
        "config must be one of tiny, edge, large, datacenter or a TOML file, got 'huge'"
    )
    assert message(load_config, str(tmp_path)).endswith(f"or a TOML file, got '{tmp_path}'")
    path.write_bytes(b"\xff\xfe")
    assert message(load_config, str(path)).startswith(f"{path}: must be a readable TOML text file, got ")
    path.write_text("rows = 1")
    assert message(load_config, str(path)) == f"{path}: missing key 'name'; add a line 'name = ...'"

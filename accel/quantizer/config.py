"""Settings of the quantizer: every option with its default, its range and its help, in one frozen record.

The keyword arguments of `accel.quantize`, the options of ``accel quantize`` and the keys of its settings file are the
fields of `QuantizationConfig`; their help is in the fields' metadata.
"""

from __future__ import annotations

import dataclasses
import re
import tomllib
import types
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_type_hints

from accel.errors import InputError
from accel.machine.config import REQUANT_MODES

CALIBRATE_METHODS = ("auto", "expected", "minmax", "moving_average", "percentile", "kl", "mse")
"""Observers of activations: the rows of `accel.quantizer.observers.OBSERVERS`, in their order."""
ALIASES = {"entropy": "kl"}
"""Other names of observers."""
WEIGHT_METHODS = ("minmax", "mse")
MEAN_CORRECTIONS = ("auto", "on", "off")
WEIGHT_SETTINGS = ("per_channel", "weight_method", "weight_bits")
"""Settings of a layer that say how its weights become integers."""
PREPARATION = ("equalize", "bias_correction", "adaround")
NEEDED = {"percentile": ("calibrate_method", ("auto", "percentile")), "adaround_steps": ("prepare", ("adaround",))}
"""Settings that have an effect only under some values of another one."""


def _option(default: Any, help: str, choices: Sequence[Any] = ()) -> Any:
    """A field with its help and, if there are few, its values."""
    return field(default=default, metadata={"help": help, "choices": tuple(choices)})


@dataclass(frozen=True, kw_only=True)
class LayerConfig:
    """What one layer may set by an override: its weights, and the parameters of its results.

    Raises
    ------
    InputError
        A value is of the wrong type or out of its range.
    """

    calibrate_method: str = _option("auto", "Observer of the activations' ranges", CALIBRATE_METHODS)
    percentile: float = _option(99.99, "Share of the values that the observer `percentile` keeps, in (50, 100]")
    activation_symmetric: bool = _option(False, "Activations have zero point 0")
    per_channel: bool = _option(True, "One weight scale per output channel; otherwise one per layer")
    weight_method: str = _option(
        "minmax", "Range of the weights: all of them, or the least square error", WEIGHT_METHODS
    )
    weight_bits: int = _option(8, "Bits of a weight: 8 in [-127, 127], 4 in [-7, 7]", (4, 8))

    def __post_init__(self) -> None:
        object.__setattr__(self, "calibrate_method", ALIASES.get(self.calibrate_method, self.calibrate_method))
        hints = get_type_hints(type(self))
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            object.__setattr__(self, item.name, _checked(item.name, value, hints[item.name]))
            choices = item.metadata["choices"]
            for one in value if isinstance(value, tuple | list) else (value,):
                if choices and one not in choices:
                    raise InputError(f"{item.name} must be one of {', '.join(map(str, choices))}, got {one!r}")
        if not 50 < self.percentile <= 100:
            raise InputError(f"percentile must be in (50, 100], got {self.percentile!r}")


@dataclass(frozen=True, kw_only=True)
class Override:
    """Other settings for the layers that it selects.

    Parameters
    ----------
    layer : str, optional
        Name of an operator (or of an input of the network), or a regular expression for the whole name.
    op_type : str, optional
        Kind of operator, as "Conv"; "Input" selects the network's inputs.
    keep_float : bool, optional
        Whether the layer is not quantized: the host computes it. Without it, earlier overrides decide.
    settings : mapping of str to Any
        Fields of `LayerConfig`.
    """

    layer: str | None = None
    op_type: str | None = None
    keep_float: bool | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.layer is None and self.op_type is None:
            raise InputError("override must have the key 'layer' or 'op_type', got neither")
        for name in ("layer", "op_type"):
            if not isinstance(getattr(self, name), str | None):
                raise InputError(f"override's {name} must be a string, got {getattr(self, name)!r}")
        if not isinstance(self.keep_float, bool | None):
            raise InputError(f"override's keep_float must be true or false, got {self.keep_float!r}")
        _check_pattern(self.layer or "")
        _check_keys("override", self.settings, _names(LayerConfig))
        LayerConfig(**self.settings)
        if self.keep_float and (pointless := [name for name in WEIGHT_SETTINGS if name in self.settings]):
            raise InputError(f"override must not have {pointless[0]} beside keep_float: real weights stay as they are")
        object.__setattr__(self, "settings", types.MappingProxyType(dict(self.settings)))

    @classmethod
    def of(cls, table: Any) -> Override:
        """An override from a mapping that holds everything in one level, as a TOML table."""
        if isinstance(table, Override):
            return table
        if not isinstance(table, Mapping):
            raise InputError(f"override must be a table such as {{'layer': 'conv1', 'weight_bits': 4}}, got {table!r}")
        own = {key: table[key] for key in ("layer", "op_type", "keep_float") if key in table}
        return cls(**own, settings={key: value for key, value in table.items() if key not in own})

    def selects(self, name: str, kind: str) -> bool:
        """Whether it holds for an operator of that name and kind."""
        return (self.layer is None or _matches(self.layer, name)) and self.op_type in (None, kind)


@dataclass(frozen=True, kw_only=True)
class QuantizationConfig(LayerConfig):
    """All settings. The fields of `LayerConfig` hold for every layer that no override changes."""

    mode: str = _option("tflite", "How sums are rounded to int8", REQUANT_MODES)
    prepare: tuple[str, ...] = _option((), "Steps that change weights and biases before their rounding", PREPARATION)
    mean_correction: str = _option("auto", "Whether biases take up the mean error of rounded weights", MEAN_CORRECTIONS)
    adaround_steps: int = _option(1000, "Steps of AdaRound for each layer")
    seed: int = _option(0, "Seed of what is drawn at random")
    nodes_to_exclude: tuple[str, ...] = _option((), "Layers that stay real, by name or regular expression")
    op_types_to_exclude: tuple[str, ...] = _option((), "Kinds of operators that stay real")
    overrides: tuple[Override, ...] = _option((), "Other settings for some layers")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.adaround_steps < 1:
            raise InputError(f"adaround_steps must be at least 1, got {self.adaround_steps!r}")
        if self.mean_correction == "on" and self.learns:
            raise InputError(
                "mean_correction must not be on with prepare adaround or bias_correction, which take up mean errors "
                "themselves"
            )
        for pattern in self.nodes_to_exclude:
            _check_pattern(pattern)

    @property
    def learns(self) -> bool:
        """Whether a step of `prepare` learns from what the quantized layers give."""
        return bool({"adaround", "bias_correction"} & set(self.prepare))

    @property
    def corrects_means(self) -> bool:
        """Whether biases take up the mean error of rounded weights, unless measurements say otherwise."""
        return self.mean_correction == "on" or (self.mean_correction == "auto" and not self.learns)

    def values_of(self, name: str) -> set[Any]:
        """All values that a setting has, for the network or in an override."""
        own = getattr(self, name)
        values = [*(own if isinstance(own, tuple) else [own]), *(one.settings.get(name) for one in self.overrides)]
        return {ALIASES.get(value, value) for value in values}

    def layer(self, name: str, kind: str) -> LayerConfig:
        """The settings of an operator, or of an input of kind "Input"; later overrides win."""
        settings = {key: getattr(self, key) for key in _names(LayerConfig)}
        for override in self.overrides:
            if override.selects(name, kind):
                settings |= override.settings
        return LayerConfig(**settings)

    def keeps_float(self, name: str, kind: str) -> bool:
        """Whether an operator is not quantized: it is excluded, or the last override that says so keeps it real."""
        found = [one.keep_float for one in self.overrides if one.keep_float is not None and one.selects(name, kind)]
        return self.excludes(name, kind) or (bool(found) and found[-1])

    def excludes(self, name: str, kind: str) -> bool:
        """Whether an operator is excluded by name or kind, whatever overrides say."""
        return kind in self.op_types_to_exclude or any(_matches(one, name) for one in self.nodes_to_exclude)

    def without_exclusions(self) -> QuantizationConfig:
        """The same settings, under which every layer is quantized that can be."""
        overrides = tuple(replace(one, keep_float=None) for one in self.overrides)
        return replace(self, nodes_to_exclude=(), op_types_to_exclude=(), overrides=overrides)

    def check_exclusions(self, layers: Mapping[str, str]) -> None:
        """Raise `InputError` for an exclusion that selects none of `layers` (name to kind)."""
        for pattern in self.nodes_to_exclude:
            if not any(_matches(pattern, name) for name in layers):
                raise InputError(
                    f"nodes_to_exclude: {pattern!r} must be the name of a layer; `accel analyze` lists them"
                )
        for kind in self.op_types_to_exclude:
            if kind not in layers.values():
                raise InputError(f"op_types_to_exclude: the network has no {kind!r}")


def make_config(settings: Mapping[str, Any], *, tried: Collection[str] = ()) -> QuantizationConfig:
    """Settings by name, as a user gives them.

    Parameters
    ----------
    settings : mapping of str to Any
    tried : collection of str
        Settings whose other values will be tried, too.

    Raises
    ------
    InputError
        A name does not exist, a value does not fit, or a setting is given that has no effect under the others.
    """
    _check_keys("option", settings, _names(QuantizationConfig))
    config = QuantizationConfig(**settings)
    for name, (other, useful) in NEEDED.items():
        given = name in settings or any(name in one.settings for one in config.overrides)
        if given and other not in tried and not set(useful) & config.values_of(other):
            raise InputError(f"{name} must be given with {other} {' or '.join(useful)}, without which it has no effect")
    return config


def read_settings(path: Path) -> dict[str, Any]:
    """The settings in a TOML file, by name, to be completed and given to `make_config`.

    Raises
    ------
    InputError
        The file is missing or no TOML.
    """
    try:
        settings = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: must be a readable TOML file, got {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: must be TOML, got {error}") from None
    return settings


def _names(record: type[LayerConfig]) -> list[str]:
    return [item.name for item in dataclasses.fields(record)]


def _check_keys(what: str, settings: Mapping[str, Any], known: Sequence[str]) -> None:
    for key in settings:
        if key not in known:
            raise InputError(f"{what} must be one of {', '.join(known)}, got {key!r}")


def _checked(name: str, value: Any, hint: Any) -> Any:
    """A value as the type of its field."""
    if hint == tuple[Override, ...]:
        if isinstance(value, str | Mapping) or not isinstance(value, Sequence):
            raise InputError(f"{name} must be a list of tables, got {value!r}")
        return tuple(Override.of(table) for table in value)
    if hint == tuple[str, ...]:
        if isinstance(value, str) or not isinstance(value, Sequence) or not all(isinstance(v, str) for v in value):
            raise InputError(f"{name} must be a list of strings, got {value!r}")
        return tuple(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        words = {bool: "true or false", int: "an integer", float: "a number", str: "a string"}
        raise InputError(f"{name} must be {words[hint]}, got {value!r}")
    return value


def _check_pattern(pattern: str) -> None:
    try:
        re.compile(pattern)
    except re.error as error:
        raise InputError(
            f"layer {pattern!r} must be a name or a regular expression, which it is not from character "
            f"{error.pos or 0} on; write a backslash before signs that stand for themselves"
        ) from None


def _matches(pattern: str, name: str) -> bool:
    """Whether a layer has this name, or one that the regular expression describes."""
    return pattern == name or re.fullmatch(pattern, name) is not None

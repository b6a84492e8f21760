"""Recipes: the whole path from a float module to a validated program, described in one TOML file."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import sys
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import nn

from accel.errors import InputError
from accel.quantizer.config import QuantizationConfig, make_config
from accel.train.loop import Samples, Schedule
from accel.train.settings import TrainingConfig


class Data(NamedTuple):
    """What the data function of a recipe gives: pairs of inputs (float32, samples first) and labels (integers)."""

    train: Samples
    test: Samples


@dataclass(frozen=True, kw_only=True)
class DistillationSettings:
    """Key `distillation` of a recipe; without a teacher function, the trained float model teaches."""

    alpha: float = 0.5
    temperature: float = 4.0
    teacher: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1 or self.temperature <= 0:
            raise InputError(
                f"distillation must have alpha in [0, 1] and temperature above 0, got {self.alpha} and "
                f"{self.temperature}"
            )


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One training run.

    Parameters
    ----------
    model, data : str
        ``FILE.py:FUNCTION``, relative to the recipe: a function without arguments that gives a module, or a pair
        ``(train, test)`` of pairs ``(inputs, labels)`` of arrays.
    seed : int
    threads : int
        Of PyTorch on the CPU; sums of another number of threads may differ in the last bit.
    calibration : int
        Training samples from which the first ranges are measured.
    max_drop : float
        Points of top-1 that post-training quantization may lose before training with fake quantization begins.
    config : str
        Machine on which the result is validated.
    float_training, training : Schedule
        Of the float model, and with fake quantization.
    quantization : QuantizationConfig
    estimator : str
    distillation : DistillationSettings, optional
    """

    model: str
    data: str
    seed: int = 0
    threads: int = 1
    calibration: int = 256
    max_drop: float = 1.0
    config: str = "edge"
    float_training: Schedule = field(default_factory=lambda: Schedule(epochs=20, learning_rate=1e-2))
    training: Schedule = field(default_factory=lambda: Schedule(epochs=10, frozen_share=0.3))
    quantization: QuantizationConfig = field(default_factory=QuantizationConfig)
    estimator: str = "lsq"
    distillation: DistillationSettings | None = None
    folder: Path = Path()
    fingerprint: str = ""

    def __post_init__(self) -> None:
        if self.threads < 1 or self.calibration < 1:
            raise InputError(f"threads and calibration must be at least 1, got {self.threads} and {self.calibration}")
        self.training_config()

    def training_config(self) -> TrainingConfig:
        """The settings of `prepare`."""
        return TrainingConfig(quantization=self.quantization, estimator=self.estimator)

    def make_model(self) -> nn.Module:
        """The untrained float module, initialised under the seed."""
        torch.manual_seed(self.seed)
        return _module(self.function(self.model)(), self.model)

    def make_teacher(self) -> nn.Module | None:
        """The teacher that the recipe names, in evaluation mode."""
        if self.distillation is None or not self.distillation.teacher:
            return None
        return _module(self.function(self.distillation.teacher)(), self.distillation.teacher).eval()

    def make_data(self) -> Data:
        """Training and test samples."""
        found = self.function(self.data)()
        try:
            train, test = (Samples(*(np.asarray(part) for part in pair)) for pair in found)
        except (TypeError, ValueError):
            raise InputError(f"{self.data} must give ((inputs, labels), (inputs, labels)), got {type(found)}") from None
        return Data(_checked(train, self.data), _checked(test, self.data))

    def function(self, reference: str) -> Callable[[], Any]:
        """A function without arguments from ``FILE.py:FUNCTION``."""
        file, _, name = reference.rpartition(":")
        path = self.folder / file
        if not file or not path.is_file():
            raise InputError(f"{reference!r} must be FILE.py:FUNCTION of a file beside the recipe, got no such file")
        found = getattr(_module_of(path), name, None)
        if not callable(found):
            raise InputError(f"{reference!r} must name a function of {path.name}, got {found!r}")
        return cast(Callable[[], Any], found)


def _module_of(path: Path) -> ModuleType:
    """A file as a module; as for a script, modules beside it can be imported, and it is known to `sys.modules`."""
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(f"recipe_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read_recipe(path: Path) -> Recipe:
    """Read a recipe.

    Raises
    ------
    InputError
        The file is missing or no TOML, a key is unknown or missing, or a value does not fit.
    """
    try:
        text = path.read_text(encoding="utf-8")
        table = tomllib.loads(text)
    except OSError as error:
        raise InputError(f"{path}: must be a readable TOML file, got {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: must be TOML, got {error}") from None
    records: dict[str, Callable[..., Any]] = {
        "float_training": Schedule,
        "training": Schedule,
        "distillation": DistillationSettings,
    }
    known = [item.name for item in dataclasses.fields(Recipe) if item.name not in ("folder", "fingerprint")]
    for key in table:
        if key not in known:
            raise InputError(f"{path}: key must be one of {', '.join(known)}, got {key!r}")
    for key in ("model", "data"):
        if not isinstance(table.get(key), str):
            raise InputError(f"{path}: must have the key {key!r} with FILE.py:FUNCTION, got {table.get(key)!r}")
    for key, record in records.items():
        if key in table:
            table[key] = _record(path, key, record, table[key])
    if "quantization" in table:
        table["quantization"] = make_config(_table(path, "quantization", table["quantization"]))
    for item in dataclasses.fields(Recipe):
        _check_type(path, item.name, table.get(item.name), item.type)
    fingerprint = hashlib.sha256(text.encode()).hexdigest()
    return Recipe(**table, folder=path.resolve().parent, fingerprint=fingerprint)


def _check_type(path: Path, key: str, value: Any, hint: Any) -> None:
    types: dict[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "str": (str,)}
    wanted = types.get(str(hint))
    if value is not None and wanted is not None and (not isinstance(value, wanted) or isinstance(value, bool)):
        raise InputError(f"{path}: {key} must be of type {hint}, got {value!r}")


def _table(path: Path, key: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise InputError(f"{path}: {key} must be a table, got {value!r}")
    return value


def _record(path: Path, key: str, record: Callable[..., Any], value: Any) -> Any:
    fields = {item.name: item for item in dataclasses.fields(cast(Any, record))}
    for name, one in _table(path, key, value).items():
        if name not in fields:
            raise InputError(f"{path}: {key} must have keys of {', '.join(fields)}, got {name!r}")
        _check_type(path, f"{key}.{name}", one, fields[name].type)
    return record(**value)


def _module(found: Any, reference: str) -> nn.Module:
    if not isinstance(found, nn.Module):
        raise InputError(f"{reference} must give a torch.nn.Module, got {type(found).__name__}")
    return found


def _checked(samples: Samples, reference: str) -> Samples:
    inputs, labels = samples
    if inputs.ndim < 2 or labels.shape != inputs.shape[:1] or inputs.dtype.kind not in "fiu" or len(labels) < 2:
        raise InputError(
            f"{reference} must give numbers of shape (samples, ...) with one label each, got {inputs.dtype} of shape "
            f"{inputs.shape} with labels of shape {labels.shape}"
        )
    return Samples(np.ascontiguousarray(inputs, np.float32), labels.astype(np.int64))

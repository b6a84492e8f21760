"""The quantizer's settings as options of the command line."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import click

from accel.errors import InputError
from accel.quantizer.config import QuantizationConfig, read_settings
from accel.quantizer.images import ImageFolder, Preprocessing


def setting_options() -> list[click.Option]:
    """An option for each setting but the overrides, which only a file holds; one that is not given is None or empty."""
    return [_option(item) for item in dataclasses.fields(QuantizationConfig) if item.name != "overrides"]


def merged(file: Path | None, options: dict[str, Any]) -> dict[str, Any]:
    """The settings of a file, replaced by those that the command line gives."""
    given = {name: value for name, value in options.items() if value not in (None, ())}
    return (read_settings(file) if file else {}) | given


def source_of(path: Path, options: tuple[str, ...]) -> Path | ImageFolder:
    """Samples of a file or folder; with ``KEY=VALUE`` options the images of a folder, preprocessed as they say."""
    if not options:
        return path
    texts = dict[str, str]()
    for option in options:
        key, equals, texts[key] = option.partition("=")
        if not equals:
            raise InputError(f"image option must be KEY=VALUE, got {option!r}")
    return ImageFolder(path, Preprocessing.of(texts))


def _option(item: dataclasses.Field[Any]) -> click.Option:
    """The option for a field of the settings."""
    flag, default = item.name.replace("_", "-"), item.default
    help = item.metadata["help"]
    if item.metadata["choices"]:
        help += f": {', '.join(map(str, item.metadata['choices']))}"
    if isinstance(default, tuple):
        return click.Option([f"--{flag}"], multiple=True, help=f"{help}; repeat the option for several.")
    shown = str(default).lower() if isinstance(default, bool) else default
    name = f"--{flag}/--no-{flag}" if isinstance(default, bool) else f"--{flag}"
    return click.Option([name], type=type(default), default=None, help=f"{help} (default: {shown}).")

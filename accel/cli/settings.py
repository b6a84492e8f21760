"""The quantizer's settings as options of the command line."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, TypeAlias

import click

from accel.errors import InputError
from accel.quantizer.config import QuantizationConfig, read_settings
from accel.quantizer.images import ImageFolder, Preprocessing

Source: TypeAlias = Path | ImageFolder
"""Samples of a command."""


def setting_options() -> list[click.Option]:
    """An option for each setting but the overrides, which only a file holds; one that is not given is None or empty."""
    return [_option(item) for item in dataclasses.fields(QuantizationConfig) if item.name != "overrides"]


def merged(file: Path | None, options: dict[str, Any]) -> dict[str, Any]:
    """The settings of a file, replaced by those that the command line gives."""
    given = {name: value for name, value in options.items() if value not in (None, ())}
    return (read_settings(file) if file else {}) | given


def sources_of(options: tuple[str, ...], path: Path, other: Path | None = None) -> tuple[Source, Source | None]:
    """Samples of files or folders; with ``KEY=VALUE`` options the images of the folders, preprocessed as they say.

    Raises
    ------
    InputError
        An option is no image option, is given twice, or there is no folder for it.
    """
    if not options:
        return path, other
    texts = dict[str, str]()
    for option in options:
        key, equals, text = option.partition("=")
        if not equals:
            raise InputError(f"image option must be KEY=VALUE, got {option!r}")
        if key in texts:
            raise InputError(f"image option {key} must be given once, got {texts[key]!r} and {text!r}")
        texts[key] = text
    preprocessing = Preprocessing.of(texts)
    if not path.is_dir() and not (other and other.is_dir()):
        raise InputError(f"{path}: must be a folder of images")

    def source(one: Path) -> Source:
        return ImageFolder(one, preprocessing) if one.is_dir() else one

    return source(path), other and source(other)


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

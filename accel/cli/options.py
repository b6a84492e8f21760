"""Arguments and options that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import click

from accel.errors import InputError

FILE = click.Path(dir_okay=False, path_type=Path)
FOLDER = click.Path(file_okay=False, path_type=Path)
CONFIG = click.option("--config", default="edge", show_default=True, help="Preset or TOML file.")
IMAGES = click.option(
    "--image", "image_options", multiple=True, metavar="KEY=VALUE",
    help="How images become inputs: resize=256, crop=224, mean=0.485,0.456,0.406, std=..., scale=..., layout=NHWC, "
    "channels=1; repeat the option for several.",
)  # fmt: skip
SOURCE = click.Path(path_type=Path)
"""Samples: a file of arrays, or a folder."""
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")
MODEL_CONFIG = click.option(
    "--config", default=None,
    help="Machine to compile for: preset or TOML file (default: edge). A program must be compiled for it.",
)  # fmt: skip
LAYOUT = click.option(
    "--layout", default=None, callback=lambda ctx, parameter, value: _layout(value),
    help="Order of images' axes, NCHW or NHWC (default: the model's); needed if the shape fits both.",
)  # fmt: skip
SHAPES = click.option(
    "--shape", "shapes", multiple=True, callback=lambda ctx, parameter, values: _shapes(values),
    help="Sizes that an .onnx file leaves free: NAME=1,3,224,224; repeat the option for each input.",
)  # fmt: skip


def with_model(command: Callable[..., Any]) -> Callable[..., Any]:
    """The argument MODEL and the sizes that its file may leave free."""
    return click.argument("model", type=FILE)(SHAPES(command))


ENERGY = click.option(
    "--energy", type=FILE, default=None, help="TOML file of picojoules in place of the built-in ones."
)
TRACE = click.option(
    "--trace", type=FILE, default=None, callback=lambda ctx, parameter, path: in_folder(ctx, parameter, path),
    help="Also write the timeline for Chrome's or Perfetto's viewer (JSON).",
)  # fmt: skip
REPORT = click.option(
    "--report", type=FILE, default=None, callback=lambda ctx, parameter, path: in_folder(ctx, parameter, path),
    help="Also write a page of pictures (HTML).",
)  # fmt: skip
VCD = click.option(
    "--vcd", type=(FILE, int, int), default=None, metavar="FILE FIRST LAST",
    callback=lambda ctx, parameter, value: value and (in_folder(ctx, parameter, value[0]), *value[1:]),
    help="Also write the array's registers in cycles FIRST to LAST of the first sample (value change dump).",
)  # fmt: skip
WIDE = click.option("--wide", is_flag=True, help="Print all columns, even beyond the width of the terminal.")


def output(what: str, *, required: bool = True) -> Callable[[Any], Any]:
    """The option -o for a file to write."""
    return click.option("-o", "--output", type=FILE, required=required, callback=in_folder, help=what)


def _shapes(texts: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Sizes by name from ``name=1,3,224,224``."""
    shapes: dict[str, tuple[int, ...]] = {}
    for text in texts:
        name, _, sizes = text.rpartition("=")
        numbers = sizes.split(",")
        if not name or not all(number.strip().isdecimal() and int(number) > 0 for number in numbers):
            raise InputError(f"--shape must be NAME=SIZE,SIZE,... with positive integers, got {text!r}")
        if name in shapes:
            raise InputError(f"--shape must be given once for each input, got {name!r} twice")
        shapes[name] = tuple(int(number) for number in numbers)
    return shapes


def _layout(name: str | None) -> str | None:
    """Refuse an order of axes that nobody knows."""
    from accel.network.array_layout import check_layout

    check_layout(name)
    return name


def in_folder(ctx: click.Context, parameter: click.Parameter, path: Path | None) -> Path | None:
    """Refuse a file to write before the work for it begins."""
    if path and not path.parent.is_dir():
        raise InputError(f"{path}: its folder does not exist")
    if path:
        written_files(ctx)[str(parameter.name)] = path
    return path


def written_files(ctx: click.Context) -> dict[str, Path]:
    """The files that a command writes, by the name of the option."""
    return cast("dict[str, Path]", ctx.meta.setdefault(f"{__name__}.written", {}))


def check_report(path: Path | None) -> None:
    """Refuse a page before the work for it begins if it cannot be drawn."""
    from accel.page import check_library

    if path:
        check_library()


class SettingsCommand(click.Command):
    """A command whose options are the quantizer's settings; they are imported when it runs or prints its help."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Own parameters, and one for each setting."""
        from accel.cli.settings import setting_options

        own = super().get_params(ctx)
        return [*own[:-1], *setting_options(), own[-1]]

"""Helpers of all commands: errors as one sentence and an exit code, progress bars, tables and JSON."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from accel.errors import AccelError, DivergenceError

if TYPE_CHECKING:
    from rich.table import Table

    from accel.demo.run import Stage
    from accel.program.program import OperatorInfo
    from accel.report.layers import LayerRow


class Group(click.Group):
    """Turns the package's errors into one sentence and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; exit with 1 for a mismatch, 2 for bad input, 130 if interrupted."""
        try:
            return super().invoke(ctx)
        except DivergenceError as error:
            click.echo(f"Mismatch: {error}", err=True)
            ctx.exit(1)
        except AccelError as error:
            click.echo(f"Error: {error}", err=True)
            ctx.exit(2)
        except BrokenPipeError:
            raise
        except OSError as error:
            click.echo(f"Error: {error.filename}: {error.strerror}" if error.filename else f"Error: {error}", err=True)
            ctx.exit(2)
        except KeyboardInterrupt:
            click.echo("Interrupted", err=True)
            ctx.exit(130)


@contextmanager
def progress() -> Iterator[Stage]:
    """A function that announces stages as rich progress bars on standard error, if that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:

        def stage(description: str, total: int) -> Callable[[], None]:
            task = bars.add_task(description, total=total or None)
            return lambda: bars.advance(task)

        yield stage


def print_layers(rows: list[LayerRow], title: str, *, host: Sequence[OperatorInfo] = (), wide: bool) -> None:
    """A table of the layers of a run, and of the operators that the host computes."""
    from accel.cli.tables import layer_table

    print_table(layer_table(rows, title, host=host, wide=wide), wide=wide)


def print_table(table: Table, *, wide: bool) -> None:
    """A table as wide as the terminal (80 columns if there is none), or as wide as its cells if `wide`."""
    from rich.console import Console

    def console(width: int | None) -> Console:
        return Console(width=width, markup=False, emoji=False, highlight=False)

    console(console(10_000).measure(table).maximum if wide else None).print(table)


def echo_lines(lines: Iterable[str], indent: int = 2) -> None:
    """Lines, broken where the terminal ends, between words if it holds them, and continued after `indent` spaces."""
    width = shutil.get_terminal_size().columns
    for line in lines:
        for part in textwrap.wrap(line, width, subsequent_indent=" " * indent, break_on_hyphens=False) or [""]:
            click.echo(part)


def counted(number: int, noun: str) -> str:
    """A number and its noun."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def echo_json(value: Any) -> None:
    """Results for machines."""
    from accel.cli.tables import to_json

    click.echo(to_json(value))

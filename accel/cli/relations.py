"""What options ask of each other, checked before a command's work: declared pairs, and files that must differ."""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click
from click.core import ParameterSource

from accel.cli.options import written_files
from accel.errors import InputError


class Relation(NamedTuple):
    """What an option asks of others, all by the names of the function's arguments.

    Parameters
    ----------
    option : str
    others : tuple of str
    together : bool
        Whether one of the others must be given too; otherwise none of them may be.
    """

    option: str
    others: tuple[str, ...]
    together: bool

    def holds(self, given: frozenset[str]) -> bool:
        """Whether the options that were given satisfy it."""
        return self.option not in given or self.together == any(other in given for other in self.others)


def needs(option: str, *others: str) -> Relation:
    """An option that has an effect only with one of the others."""
    return Relation(option, others, together=True)


def excludes(option: str, *others: str) -> Relation:
    """An option beside which the others have no effect, or the other way round."""
    return Relation(option, others, together=False)


def related(*relations: Relation) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Let a command refuse the options that break a relation; stands below the options that it names."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def checked(*arguments: Any, **options: Any) -> Any:
            ctx = click.get_current_context()
            given = frozenset(n for n in ctx.params if ctx.get_parameter_source(n) is ParameterSource.COMMANDLINE)
            for relation in relations:
                if not relation.holds(given):
                    raise InputError(_sentence(relation, ctx))
            return command(*arguments, **options)

        return checked

    return decorate


def _sentence(relation: Relation, ctx: click.Context) -> str:
    flags = {parameter.name: max(parameter.opts, key=len) for parameter in ctx.command.get_params(ctx)}
    others = " or ".join(flags[other] for other in relation.others)
    return f"{flags[relation.option]} must {'' if relation.together else 'not '}be given with {others}"


def keeping_files(command: click.Command) -> click.Command:
    """Let a command refuse to write over a file that it reads, or two files in one place."""
    run = command.callback
    if run is None:
        return command

    @functools.wraps(run)
    def checked(*arguments: Any, **options: Any) -> Any:
        ctx = click.get_current_context()
        written = written_files(ctx)
        for option, value in ctx.params.items():
            for path in () if option in written else _files(value):
                if any(path.samefile(other) for other in written.values() if other.exists()):
                    raise InputError(f"{path}: the command reads this file, it must write another one")
        for first, second in itertools.combinations(written.values(), 2):
            if first.resolve() == second.resolve():
                raise InputError(f"{first}: must be the place of one file, got it for two")
        return run(*arguments, **options)

    command.callback = checked
    return command


def _files(value: Any) -> Iterator[Path]:
    """The files that exist among the values of an option."""
    for one in value if isinstance(value, tuple) else (value,):
        if isinstance(one, str | Path) and os.path.isfile(one):
            yield Path(one)

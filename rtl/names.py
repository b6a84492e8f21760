"""Plain Verilog identifiers in place of the escaped ones that netlists are written with."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable

ESCAPED = re.compile(r"\\(\S+) ")
PLAIN = re.compile(r"(?<![\\\w$.])[A-Za-z_]\w*")
HEADER = re.compile(r"^module [^;]*;", re.MULTILINE)
ASSIGNED = re.compile(r"^  assign \\(\$\d+)  = (.*);$", re.MULTILINE)
NEXT = re.compile(r"^ +(\w+) <= \\(\$\d+) ;$", re.MULTILINE)
COMPARED = re.compile(r"^(\w+(?:\[\d+(?::\d+)?\])?) == \d+'[hd]([0-9a-f]+)$")
INVERTED = re.compile(r"^~ ?(\w+(?:\[\d+\])?)$")
NUMBER = re.compile(r"\\(\$\d+) ")
CONDITION = re.compile(r"^ +(?:end else )?(?:if|case\w*) \((.*)\)")
SINK = re.compile(r"^ +(?:assign )?(?:\\(\S+) |(\w+))(?:\[[^]]*\])? <?= (.*);$")
UNNAMED_PORT = re.compile(r"^port\$\d+\$\d+$")
GIVEN = re.compile(r"^  assign (?:\\(\S+) |(\w+)) = (.*);$", re.MULTILINE)
MEMBER = re.compile(r"\\(\S+) (?= ?[,}]|$)")
SLICE = re.compile(r"\\(\S+) (?=\[)")
PORT = re.compile(r"^ +\.(?:\\(\S+) |(\w+))\((.*)\),?$")
OPERATIONS = {
    " ? ": "selected",
    " == ": "equal",
    " != ": "unequal",
    " <= ": "at_most",
    " >= ": "at_least",
    " < ": "less",
    " > ": "greater",
    " << ": "shifted",
    " >> ": "shifted",
    " >>> ": "shifted",
    " * ": "product",
    " + ": "sum",
    " - ": "difference",
    " & ": "both",
    " | ": "either",
    " ^ ": "differing",
    "|": "any",
    "&": "all",
    "-": "negated",
    "~": "inverted",
    "!": "zero",
}
"""What an intermediate value is called, behind its signal: the first of these operators that makes it."""


def plain_names(text: str) -> str:
    """The same Verilog; names of parts (`a.b`, `a[0]`), numbered names (`a$1`) and mere numbers (`$1`) become plain.

    A mere number becomes what the value is, if that is short (`count_is_0`), or else the signal that it is for and the
    operation (`level_sum`); a port with a number for a name becomes a part of a signal (`page_part`). Other names keep
    their number if the name without it is taken, or is a single word, and so may be a keyword. Keywords get an
    underscore.
    """
    modules = text.split("endmodule\n")
    headers = "".join(header for module in modules for header in HEADER.findall(module))
    shared = _plain(headers, {}, set(PLAIN.findall(text)), _port_kinds(modules))
    return "endmodule\n".join(_renamed(module, shared) for module in modules)


def _renamed(module: str, shared: dict[str, str]) -> str:
    """A module with plain names; `shared` are those of ports and modules."""
    taken = {*PLAIN.findall(module), *shared.values()}
    plain = shared | _plain(module, shared, taken, _kinds(module))
    return ESCAPED.sub(lambda found: plain.get(found[1], found[0]), module)


def _plain(text: str, known: dict[str, str], taken: set[str], kinds: dict[str, str]) -> dict[str, str]:
    """Plain names of the escaped names in `text` that are not known, in the order in which they occur.

    `kinds` are what values and ports with numbers for names are called.
    """
    meanings = {name: _meaning(expression) for name, expression in ASSIGNED.findall(text)}
    meanings |= {name: f"{register}_next" for register, name in NEXT.findall(text)}
    plain: dict[str, str] = {}
    for name in dict.fromkeys(ESCAPED.findall(text)):
        if name not in known:
            meaning = meanings.get(name)
            unused = meaning and meaning not in taken
            plain[name] = meaning if unused else _unused(name, kinds.get(name), taken)
            taken.add(plain[name])
    return plain


def _port_kinds(modules: Iterable[str]) -> dict[str, str]:
    """What ports with numbers for names are called: a part of the first signal that has them, or that they are of, or
    that has bits of them."""
    wholes: dict[str, str] = {}
    some: dict[str, str] = {}
    sources: dict[str, str] = {}
    for module in modules:
        kinds = _kinds(module)
        for escaped, plain, expression in GIVEN.findall(module):
            if UNNAMED_PORT.match(escaped):
                source = expression.lstrip("\\").split("[")[0].strip()
                sources[escaped] = kinds.get(source, source)
            elif whole := _word(escaped or plain):
                wholes |= {port: whole for port in MEMBER.findall(expression) if port not in wholes}
                some |= {port: whole for port in SLICE.findall(expression) if port not in some}
    named = some | sources | wholes
    return {port: f"{_word(name)}_part" for port, name in named.items() if UNNAMED_PORT.match(port)}


def _kinds(text: str) -> dict[str, str]:
    """What values with numbers for names are called: the first signal that depends on them, and how they are made."""
    sinks = _sinks(text) | {name: register for register, name in NEXT.findall(text)}
    kinds = dict.fromkeys(NUMBER.findall(text), "next")
    kinds |= {name: _kind(expression) for name, expression in ASSIGNED.findall(text)}
    for name, kind in kinds.items():
        signal, passed = sinks.get(name), {name}
        while signal in kinds and signal not in passed:
            passed.add(signal)
            signal = sinks.get(signal)
        if signal and _word(signal):
            kinds[name] = f"{_word(signal)}_{kind}"
    return kinds


def _sinks(text: str) -> dict[str, str]:
    """Of each value with a number for a name the first signal or port that is assigned an expression with it.

    Only if there is none, the last value that has a number for a name, too: the earlier ones may lead nowhere.
    """
    sinks: dict[str, str] = {}
    conditions = ""
    for line in text.splitlines():
        if condition := CONDITION.match(line):
            conditions += condition[1]
        elif sink := SINK.match(line) or PORT.match(line):
            for name in NUMBER.findall(conditions + sink[3]):
                if sinks.get(name, "$").startswith("$"):
                    sinks[name] = sink[1] or sink[2]
            conditions = ""
    return sinks


def _word(name: str) -> str:
    """A name without numbers that were added to it, as a part of a plain name."""
    return re.sub(r"\W+", "_", re.sub(r"\$\d+", "", name)).strip("_")


def _meaning(expression: str) -> str | None:
    """A name that says all of an expression: a comparison with a number, or an inverted value."""
    if compared := COMPARED.match(expression):
        return re.sub(r"\W+", "_", compared[1]).strip("_") + f"_is_{compared[2]}"
    if inverted := INVERTED.match(expression):
        return "not_" + re.sub(r"\W+", "_", inverted[1]).strip("_")
    return None


def _kind(expression: str) -> str:
    """What a value is called that is assigned `expression`."""
    return next((kind for operator, kind in OPERATIONS.items() if operator in expression), "part")


def _unused(name: str, kind: str | None, taken: set[str]) -> str:
    """A plain name, as short as possible, that is not taken; `kind` is for a mere number."""
    if kind:
        candidates = itertools.chain([kind], (f"{kind}_{count}" for count in itertools.count(2)))
    else:
        name = re.sub(r"^\$auto\$.*\$", "initial$", name)
        numbered = f"{name}_" if name.isidentifier() else re.sub(r"\W+", "_", name).strip("_")
        short = [_word(name)] if "_" in _word(name) else []
        candidates = itertools.chain(short, (numbered + "_" * more for more in itertools.count()))
    return next(candidate for candidate in candidates if candidate not in taken)

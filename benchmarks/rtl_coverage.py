"""Lines, branches and toggles of the Verilog that the suites reach. Run: python benchmarks/rtl_coverage.py

The suites are those of `benchmarks/mutants.py`, on the same machine; a point counts once for all instances of a module.
Verilator counts. A toggle is a bit that changes, a line or branch a statement that runs. Bus monitors are not counted.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from support.mutants.campaign import Campaign

from rtl.testbench.verilate import Variant

FIELD = re.compile("\x01([^\x02]*)\x02([^\x01]*)")
"""Of a point's key: a name and its value."""


class Point(NamedTuple):
    """A coverage point: its kind (line, branch, toggle), its module, and how often it was reached."""

    kind: str
    module: str
    hits: int


def points(files: Iterable[str]) -> Iterator[Point]:
    """The points of files in Verilator's format ("C" records), hits added."""
    counts: Counter[tuple[str, str, str]] = Counter()
    for line in chain.from_iterable(text.split("\n") for text in files):
        if not line.startswith("C '"):
            continue
        key, _, count = line[3:].rpartition("' ")
        fields = dict(FIELD.findall(key))
        kind, _, module = fields["page"].removeprefix("v_").partition("/")
        place = " ".join(fields.get(name, "") for name in ("l", "n", "o", "S"))
        counts[kind, module, place] += int(count)
    for (kind, module, _), hits in counts.items():
        if "_monitor" not in module:
            yield Point(kind, module, hits)


def report(found: list[Point]) -> list[str]:
    """A table of kinds, and the modules where most is missing."""
    lines, missing = ["| points | reached | of | % |", "|---|---|---|---|"], defaultdict(int)
    for kind in sorted({point.kind for point in found}):
        mine = [point for point in found if point.kind == kind]
        reached = sum(point.hits > 0 for point in mine)
        lines.append(f"| {kind} | {reached:,} | {len(mine):,} | {100 * reached / len(mine):.1f} |")
    for point in found:
        missing[point.module] += point.hits == 0
    worst = sorted(missing, key=lambda module: -missing[module])[:8]
    return [*lines, "most is missing in " + ", ".join(f"{module} ({missing[module]:,})" for module in worst)]


def main(arguments: list[str] | None = None) -> None:
    """Run the suites, count, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stimulus", type=int, default=0, help="seed of the stimulus")
    options = parser.parse_args(arguments)
    campaign = Campaign(Variant(coverage=True, counters=True), options.stimulus)
    print(*report(list(points(campaign.coverage()))), sep="\n")


if __name__ == "__main__":
    main()

"""How many faults of the netlist the suites notice. Run: python benchmarks/mutants.py --count 300 --seed 1

yosys's `mutate` makes the faults (a bit inverted, stuck at 0 or 1, or dependent on its neighbour) in all modules of the
emitted Verilog of a small machine with every feature (`tests/support/rtl/hostile.py`), all in one netlist, one active
at a time. A mutant without a path to an output is equivalent, as is one that chooses a constant which is there anyway;
on each other one those suites run that make its bit differ, until one fails, the quick ones first. One that survives
these is equivalent only if ABC (`apt-get install berkeley-abc`) proves it; all others meet the suites that take long.
"""

from __future__ import annotations

import argparse
import resource
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from support.mutants.campaign import Campaign
from support.mutants.excitation import unchanged, watched
from support.mutants.netlist_mutants import NetlistMutant, mutated
from support.mutants.observability import unobservable
from support.mutants.sequential import indistinguishable
from support.mutants.verdicts import Verdicts
from support.rtl.hostile import MACHINE

from rtl.testbench.cache import cached_verilog
from rtl.testbench.verilate import Variant, build


def main(arguments: list[str] | None = None) -> None:
    """Make mutants, run the suites on each, prove survivors equivalent, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=300, help="mutants")
    parser.add_argument("--seed", type=int, default=1, help="of the choice of mutants")
    parser.add_argument("--stimulus", type=int, default=0, help="seed of the stimulus")
    parser.add_argument("--jobs", type=int, default=2, help="mutants at the same time")
    parser.add_argument("--verdicts", type=Path, help="file of what was noticed: read first, then appended to")
    parser.add_argument("--only", type=int, nargs="+", help="numbers of mutants, instead of all")
    options = parser.parse_args(arguments)
    verilog = cached_verilog(MACHINE)
    text, mutants = mutated(verilog, options.count, options.seed)
    text = watched(text)
    variant = Variant(text, mutants=True, counters=True, coverage=True)
    build(MACHINE, variant)
    campaign, kept = Campaign(variant, options.stimulus), Verdicts(options.verdicts, text)
    campaign.prepare()
    chosen = [mutant for mutant in mutants if not options.only or mutant.number in options.only]
    proved = unobservable(verilog, chosen) | unchanged(text, chosen)
    for part, names in enumerate(campaign.parts()):
        unknown = [mutant for mutant in chosen if not kept.known.get(mutant.number) and mutant.number not in proved]
        with ThreadPoolExecutor(options.jobs) as pool:
            found = pool.map(lambda mutant, names=names: campaign.verdict(mutant.number, names), unknown)
            for mutant, suite in zip(unknown, found, strict=True):
                kept.add(mutant.number, suite)
                print(f"{suite or 'survives'}: {mutant}", flush=True)
        spent = resource.getrusage(resource.RUSAGE_CHILDREN)
        print(f"suites and proofs took {spent.ru_utime + spent.ru_stime:.0f} CPU seconds", flush=True)
        if not part:  # what is equivalent need not meet the suites that take long
            proved |= indistinguishable(text, [mutant for mutant in unknown if not kept.known[mutant.number]])
    report({mutant: kept.known.get(mutant.number, "") for mutant in chosen}, proved)


def report(verdicts: dict[NetlistMutant, str], proved: set[int]) -> None:
    """Print what became of the mutants."""
    ends = Counter(verdicts.values())
    survivors = [mutant for mutant, suite in verdicts.items() if not suite and mutant.number not in proved]
    killed = len(verdicts) - ends[""]
    print(f"{len(verdicts)} mutants of {len({mutant.module for mutant in verdicts})} modules: {killed} killed")
    print(*(f"  by {suite}: {count}" for suite, count in ends.most_common() if suite), sep="\n")
    print(f"{len(proved)} proved equivalent, {len(survivors)} survive")
    print(f"score {100 * killed / max(len(verdicts) - len(proved), 1):.1f} % of those that are not equivalent")
    print(*(f"  {mutant}" for mutant in survivors), sep="\n")


if __name__ == "__main__":
    main()

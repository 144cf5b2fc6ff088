"""Shared by all tests: where the real CT data lie, when they are there, and how hypothesis runs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("any machine", deadline=None)  # a busy or small machine is no failure
settings.load_profile("any machine")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real CT test data: MOLRE_EDGE_TEST_DATA, else ../shared/data beside the repository."""
    given = os.environ.get("MOLRE_EDGE_TEST_DATA")
    folder = Path(given) if given else Path(__file__).resolve().parents[2] / "shared" / "data"
    if not (folder / "SHA256SUMS").is_file():
        pytest.skip("the real CT test data are not here: set MOLRE_EDGE_TEST_DATA to their folder")
    return folder

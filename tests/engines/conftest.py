"""Volumes for the tiny bundle's model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from molre_edge.bundle import Bundle, GoldenSet


@pytest.fixture(scope="session")
def bundle(tiny_bundle: Path) -> Bundle:
    return Bundle.open(tiny_bundle)


@pytest.fixture(scope="session")
def golden(bundle: Bundle) -> GoldenSet:
    return bundle.golden()


@pytest.fixture(scope="session")
def volumes(golden: GoldenSet) -> npt.NDArray[np.float16]:
    """Three volumes, HU."""
    return golden.volumes

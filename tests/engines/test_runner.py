"""What every runner refuses at its door."""

from __future__ import annotations

import numpy as np
import pytest

from molre_edge.engines.runner import check_volume
from molre_edge.errors import EngineError
from molre_edge.specs import TensorSpec

SPEC = TensorSpec("volume", "float16", (None, 4, 32, 48))


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_a_batch_on_the_grid_is_taken_at_any_size(batch: int) -> None:
    check_volume(np.zeros((batch, 4, 32, 48), np.float16), SPEC)


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((1, 4, 32, 48), "float32"),
        ((1, 4, 32, 48), "int16"),
        ((4, 32, 48), "float16"),
        ((1, 1, 4, 32, 48), "float16"),
        ((1, 4, 48, 32), "float16"),
        ((1, 5, 32, 48), "float16"),
        ((0, 4, 32, 48), "float16"),
    ],
)
def test_another_type_or_shape_is_refused_with_both(shape: tuple[int, ...], dtype: str) -> None:
    message = (
        rf"input volume: float16 \[batch, 4, 32, 48\]: expected float16 HU .* got {dtype} \[{shape[0]}, .*\]\. Bring"
    )
    with pytest.raises(EngineError, match=message):
        check_volume(np.zeros(shape, dtype), SPEC)

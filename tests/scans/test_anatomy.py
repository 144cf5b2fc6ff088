"""Where the content of a volume stops being a head."""

from __future__ import annotations

import numpy as np
import pytest

from molre_edge.errors import ScanError
from molre_edge.scans.anatomy import check_head
from molre_edge.scans.coarse import shrink
from molre_edge.scans.scan_records import HeadVolume


def in_body(radius_mm: float) -> HeadVolume:
    """A skull with brain in a round body; 20 slices, pixels of 2 mm."""
    rows, cols = np.mgrid[:136, :136]
    distance = np.hypot(rows - 67.5, cols - 67.5) * 2.0
    plane = np.select([distance < 70, distance < 76, distance < radius_mm], [35.0, 900.0, 10.0], -1000.0)
    hu = np.repeat(plane[None].astype(np.int16), 20, axis=0)
    return HeadVolume(hu, np.arange(20) * 5.0, np.full(20, 5.0), (2.0, 2.0), (), {})


@pytest.mark.parametrize(("radius_mm", "code"), [(119.0, ""), (120.5, "not_head")])  # 445 and 456 cm2
def test_a_head_shows_up_to_450_cm2_in_a_slice(radius_mm: float, code: str) -> None:
    coarse = shrink(in_body(radius_mm))
    if not code:
        assert isinstance(check_head(coarse), tuple)
        return
    with pytest.raises(ScanError, match="456 cm2") as caught:
        check_head(coarse)
    assert caught.value.code == code

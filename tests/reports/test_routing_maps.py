"""The maps of routing draw what was measured, cell by cell."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from molre_edge.reports import routing_maps as maps
from molre_edge.reports.parity_report import Report


def test_maps_hold_a_cell_for_each_router_and_expert_with_its_sign(
    full_report: Callable[..., Report], painted: Callable[..., list[Any]]
) -> None:
    report = full_report(size=0.2, n=6)
    gates = report.numbers.gates if report.numbers else None
    assert gates is not None
    mean, difference = painted(maps, lambda: maps.gate_maps(gates))
    texts = [text.get_text().replace("−", "-") for text in mean.axes[0].texts]
    np.testing.assert_allclose([float(text) for text in texts], gates.mean_reference.ravel(), atol=6e-4)
    texts = [text.get_text().replace("−", "-") for text in difference.axes[0].texts]
    cells, moved = texts[: gates.mean_engine.size], texts[gates.mean_engine.size :]
    signs = [np.sign(float(text)) for text in cells]
    np.testing.assert_array_equal(signs, np.sign(gates.mean_engine - gates.mean_reference).ravel())
    assert [int(text) for text in moved] == gates.leader_moves.sum(axis=1).tolist()
    assert sum(map(int, moved)) == gates.leader_changes > 0


@pytest.mark.parametrize("shape", [(1, 1, 2), (2, 24, 12)])
def test_few_and_many_experts_can_be_drawn(full_report: Callable[..., Report], shape: tuple[int, int, int]) -> None:
    report = full_report(n=2, gates=shape)
    assert report.numbers is not None and report.numbers.gates is not None
    for svg in maps.gate_maps(report.numbers.gates):
        assert svg.startswith("<svg") and f"{shape[1]} routers and {shape[2]} experts" in svg

"""Several runs side by side: what is compared with what, and what is refused. The command's tests have the rest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from molre_edge.parity import Outputs, ParityError, compare
from molre_edge.reports.parity_report import BundleFacts, Report
from molre_edge.reports.side_by_side import Side, put_side_by_side
from molre_edge.reports.side_by_side_page import render_comparison


def side(report: Report, name: str, order: list[int] | None = None) -> Side:
    """A run that answered the report's volumes, in another order if asked for."""
    assert report.engine_outputs is not None
    order = list(range(len(report.engine_outputs))) if order is None else order
    keys = tuple(f"scan {i}" for i in order)
    return Side(name=name, report=report, keys=keys, answers=report.engine_outputs.take(order))


@pytest.fixture
def pair(full_report: Callable[..., Report]) -> tuple[Report, Report]:
    return full_report(n=5), full_report(n=5, size=0.1)


def test_engines_are_held_against_each_other_volume_by_volume_whatever_their_order(
    pair: tuple[Report, Report],
) -> None:
    one, two = pair
    assert one.engine_outputs is not None and two.engine_outputs is not None
    got = put_side_by_side([side(one, "a"), side(two, "b", [3, 1, 4, 0, 2])], "now").between[0]
    cuts = np.array(one.thresholds)
    expected = compare(one.engine_outputs, two.engine_outputs, findings=one.findings, thresholds=cuts)
    assert got.numbers.to_dict() == expected.to_dict()


def test_only_volumes_that_both_answered_count(pair: tuple[Report, Report]) -> None:
    one, two = pair
    got = put_side_by_side([side(one, "a", [0, 1, 2]), side(two, "b", [2, 3])], "now")
    assert got.between[0].numbers.n == 1
    assert any("on the 1 that both answered" in note for note in got.notes)


def test_runs_pass_together_only_if_none_failed(pair: tuple[Report, Report]) -> None:
    one, two = pair
    assert put_side_by_side([side(one, "a"), side(one, "b")], "now").passed
    assert not put_side_by_side([side(one, "a"), side(two, "b")], "now").passed


def test_what_the_reader_has_to_know_is_noted(pair: tuple[Report, Report]) -> None:
    one, two = pair
    digest = BundleFacts(digest="0" * 64, checkpoint_sha256=one.bundle.checkpoint_sha256)
    assert two.reference_outputs is not None and two.limits is not None
    moved = Outputs(two.reference_outputs.logits + 1, two.reference_outputs.embedding, two.reference_outputs.gates)
    other = replace(two, bundle=digest, reference_outputs=moved, limits=replace(two.limits, name="mine"))
    notes = " ".join(put_side_by_side([side(one, "a"), side(other, "b")], "now").notes)
    assert "different bundles of the same model" in notes
    assert "judged by different limits" in notes
    assert "the references of a and b differ by up to" in notes
    assert put_side_by_side([side(one, "a"), side(two, "b")], "now").notes == ()


def test_one_run_alone_is_not_side_by_side(pair: tuple[Report, Report]) -> None:
    with pytest.raises(ParityError, match="at least two"):
        put_side_by_side([side(pair[0], "a")], "now")


def test_every_text_of_a_run_is_escaped(pair: tuple[Report, Report]) -> None:
    evil = "<script>alert(1)</script>{{ 7*7 }}"
    one = replace(pair[0], command=evil, versions={evil: evil}, limits_source=evil)
    page = render_comparison(put_side_by_side([side(one, evil), side(pair[1], "b")], evil))
    assert "<script" not in page and "alert(1)&lt;/script&gt;" in page


def test_provenance_shows_what_differs_apart_from_what_is_the_same(pair: tuple[Report, Report]) -> None:
    one = pair[0]
    other = replace(one, engine=replace(one.engine, device="Orin"), versions={**one.versions, "numpy": "9.9"})
    page = render_comparison(put_side_by_side([side(one, "a"), side(other, "b")], "now"))
    differs, same = page.split("<h3>What differs</h3>")[1].split("<h3>The same in all</h3>")
    rows: Any = [name for name in ("device", "version of numpy", "runtime", "bundle digest") if f">{name}<" in differs]
    assert rows == ["device", "version of numpy"]
    assert ">runtime<" in same and ">bundle digest<" in same

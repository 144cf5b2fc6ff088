"""The 75 findings."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from molre_edge.dicom_results.codes import code_of
from molre_edge.findings import default_findings, finding_words, parents_of, reserved_word

NAMES = tuple(finding.name for finding in default_findings())


def test_there_are_seventy_five_each_once() -> None:
    assert len(NAMES) == len(set(NAMES)) == 75


def test_names_and_groups_are_words_for_columns_and_files() -> None:
    for finding in default_findings():
        assert re.fullmatch(r"[a-z][a-z_]*[a-z]", finding.name)
        assert re.fullmatch(r"[a-z][a-z_]*[a-z]", finding.group)


def test_groups_follow_each_other() -> None:
    groups = [finding.group for finding in default_findings()]
    assert Counter(groups) == {
        "hemorrhage": 12, "infarction_vascular": 12, "trauma": 11, "mass_lesion": 12, "structural_abnormality": 11,
        "chronic_change": 8, "post_surgical_device": 9,
    }  # fmt: skip
    assert len([i for i in range(1, 75) if groups[i] != groups[i - 1]]) == 6


def test_a_parent_is_a_finding_of_the_same_group_and_no_circle_closes() -> None:
    by_name = {finding.name: finding for finding in default_findings()}
    for finding in default_findings():
        seen = {finding.name}
        above = finding.parent
        while above is not None:
            assert above not in seen
            assert by_name[above].group == finding.group
            seen.add(above)
            above = by_name[above].parent


def test_a_finding_has_the_same_words_on_pages_and_in_dicom_results() -> None:
    assert all(finding_words(name) == code_of(name).meaning for name in (*NAMES, "our_own_finding"))
    assert finding_words("skull_base_fracture") == "Fracture of base of skull"
    assert (finding_words("our_own_finding"), finding_words("_")) == ("our own finding", "finding")


def test_parents_are_pairs_of_indices_into_the_given_names() -> None:
    names = ("midline_shift", "subdural_hemorrhage", "our_own_finding", "intracranial_hemorrhage_any")
    assert parents_of(names) == ((1, 3),)


def test_where_the_parent_is_not_there_the_next_above_is() -> None:
    names = ("intracranial_hemorrhage_any", "acute_subdural_hematoma")  # its parent is subdural_hemorrhage
    assert parents_of(names) == ((1, 0),)


def test_every_child_of_the_default_list_has_its_parent() -> None:
    pairs = {NAMES[child]: NAMES[parent] for child, parent in parents_of(NAMES)}
    assert pairs == {f.name: f.parent for f in default_findings() if f.parent is not None}
    assert pairs["acute_subdural_hematoma"] == "subdural_hemorrhage"
    assert parents_of(("midline_shift",)) == parents_of(()) == ()


@pytest.mark.parametrize("name", ["scan", "row", "positive", "split", "Positive"])
def test_names_of_other_columns_are_reserved(name: str) -> None:
    reason = reserved_word(name)
    assert reason is not None and repr(name) in reason


def test_none_of_the_75_is_reserved() -> None:
    assert [finding.name for finding in default_findings() if reserved_word(finding.name)] == []

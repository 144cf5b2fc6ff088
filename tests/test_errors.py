"""Errors that a user can mend, and the values that their messages show."""

from __future__ import annotations

from typing import Any

import pytest

from molre_edge import errors


def test_all_are_of_one_family() -> None:
    kinds = [getattr(errors, name) for name in errors.__all__ if name.endswith("Error")]
    assert len(kinds) > 5
    assert all(issubclass(kind, errors.MolreEdgeError) for kind in kinds)


def test_a_missing_library_names_the_command_that_brings_it() -> None:
    error = errors.MissingDependencyError("Exporting a checkpoint", "torch", "export")
    assert str(error) == (
        "Exporting a checkpoint needs torch, which is not installed: pip install 'molre-edge[export]'"
    )
    assert (error.library, error.extra) == ("torch", "export")


@pytest.mark.parametrize(
    ("value", "text"),
    [("fp8", "'fp8'"), (7, "7"), (None, "None"), ([1, 2], "[1, 2]"), ({"a": 1}, "{'a': 1}"), (0.5, "0.5")],
)
def test_a_short_value_is_shown_as_it_is(value: Any, text: str) -> None:
    assert errors.shown(value) == text


@pytest.mark.parametrize(
    "value", ["a" * 10**6, list(range(10**6)), {str(i): i for i in range(10**5)}, [[[["a" * 99] * 99] * 99] * 99] * 99]
)
def test_a_long_value_is_cut(value: Any) -> None:
    assert len(errors.shown(value)) < 300

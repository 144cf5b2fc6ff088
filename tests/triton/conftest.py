"""Shared by the tests of Triton's model repository: a bundle that may be changed, and a reader of configurations."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],]|[^\s{}\[\],]+')


def parse(text: str) -> dict[str, list[Any]]:
    """Protobuf's text format: the values of each field, as often as it is there; a message is a dict."""
    tokens = iter(TOKEN.findall(text))
    return _message(tokens)


def _message(tokens: Iterator[str]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for token in tokens:
        if token == "}":
            break
        if token != ",":
            _values(tokens, found.setdefault(token.rstrip(":"), []))
    return found


def _values(tokens: Iterator[str], into: list[Any]) -> None:
    """One value, or those of a list."""
    token = next(tokens)
    if token != "[":
        into.append(_message(tokens) if token == "{" else token.strip('"'))
        return
    for each in tokens:
        if each == "]":
            return
        if each != ",":
            into.append(_message(tokens) if each == "{" else each)


@pytest.fixture
def box(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A bundle that may be changed."""
    return Path(shutil.copytree(tiny_bundle, tmp_path / "edge-bundle"))


@pytest.fixture(scope="session")
def config_of() -> Callable[[Path], dict[str, list[Any]]]:
    """A model's configuration, parsed."""
    return lambda folder: parse((folder / "config.pbtxt").read_text(encoding="utf-8"))

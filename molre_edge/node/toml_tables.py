"""Tables of a TOML file become frozen dataclasses: every key is known, of its type, and named where it is not."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, Union

from molre_edge.errors import ConfigError, shown

__all__ = ["read_table"]

_T = TypeVar("_T")
_WORDS = {str: "a text", int: "a whole number", float: "a number", bool: "true or false", Path: "a path as text"}


def read_table(kind: type[_T], data: Mapping[str, Any], where: str, folder: Path) -> _T:
    """Make a dataclass of a table.

    Args:
        kind: a dataclass; its ``__post_init__`` checks values and raises ConfigError.
        data: the table.
        where: names the table in messages, such as ``node.toml: [receive]``.
        folder: what relative paths are relative to.

    Raises:
        ConfigError: a key that is not known, is missing, has another type, or a value out of range.
    """
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for key in data:
        if key not in fields:
            near = difflib.get_close_matches(key, fields, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(fields)}"
            raise ConfigError(f"{where}: unknown key {key!r}; {hint}")
    hints = typing.get_type_hints(kind)
    values = {}
    for name, field in fields.items():
        if name in data:
            values[name] = _value(hints[name], data[name], f"{where}: {name}", folder)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ConfigError(f"{where}: the key {name!r} is missing")
    try:
        return kind(**values)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def _value(kind: Any, value: Any, where: str, folder: Path) -> Any:
    origin = typing.get_origin(kind)
    if origin in (Union, types.UnionType):  # X | None: TOML has no null, so it is X
        (kind,) = (each for each in typing.get_args(kind) if each is not type(None))
        origin = typing.get_origin(kind)
    if origin is tuple:
        item = typing.get_args(kind)[0]
        if not isinstance(value, list):
            raise ConfigError(f"{where}: expected a list, got {shown(value)}")
        return tuple(_value(item, each, f"{where} number {at}", folder) for at, each in enumerate(value, start=1))
    if origin is typing.Literal:
        if value not in typing.get_args(kind):
            raise ConfigError(f"{where}: expected {' or '.join(map(repr, typing.get_args(kind)))}, got {shown(value)}")
        return value
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, dict):
            raise ConfigError(f"{where}: expected a table, got {shown(value)}")
        return read_table(typing.cast(type[Any], kind), value, where, folder)
    wanted: Any = str if kind is Path else (int, float) if kind is float else kind
    if not isinstance(value, wanted) or (isinstance(value, bool) and kind is not bool):
        raise ConfigError(f"{where}: expected {_WORDS[kind]}, got {shown(value)}")
    if kind is Path:
        return folder / Path(str(value)).expanduser()
    return float(value) if kind is float else value

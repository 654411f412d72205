"""Fields of configuration dataclasses: conversion from and to plain values, and checks."""

from __future__ import annotations

import math
import typing
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any, TypeVar

_T = TypeVar("_T")


def from_dict(cls: type[_T], table: Mapping[str, Any], prefix: str = "") -> _T:
    """Make a configuration from plain values; ``prefix`` names their table in messages.

    Raises:
        ValueError: If ``table`` has an unknown key, or a value of the wrong type or out of range.
    """
    if not isinstance(table, Mapping):
        raise ValueError(f"{prefix.rstrip('.')}: expected a table, got {table!r}")
    hints = typing.get_type_hints(cls)
    names = [f.name for f in fields(typing.cast(Any, cls))]
    if unknown := [key for key in table if key not in names]:
        keys = ", ".join(prefix + key for key in unknown)
        raise ValueError(f"unknown key{'s' * (len(unknown) > 1)} {keys}; expected some of {', '.join(names)}")
    values = {key: _parse(hints[key], value, prefix + key) for key, value in table.items()}
    try:
        return cls(**values)
    except TypeError as error:
        raise ValueError(str(error)) from error


def _parse(hint: Any, value: Any, name: str) -> Any:
    """Convert a plain value to the field's type. ``__post_init__`` checks other values."""
    if is_dataclass(hint):
        return from_dict(typing.cast("type[Any]", hint), value, name + ".")
    if isinstance(hint, type) and issubclass(hint, Enum):
        try:
            return hint(value)
        except ValueError:
            raise ValueError(f"{name}: expected one of {names_of(hint)}, got {value!r}") from None
    if typing.get_origin(hint) is tuple and isinstance(value, list):
        return tuple(_parse(typing.get_args(hint)[0], item, name) for item in value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value


def plain(value: Any) -> Any:
    """Convert to plain values: enums by value, tuples as lists, configurations as dictionaries."""
    if is_dataclass(value):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    return value


def check_types(config: Any) -> None:
    """Check a configuration's fields against their annotations; integers become floats where a float is expected.

    Raises:
        TypeError: If a field has another type.
        ValueError: If a number is not finite.
    """
    for name, hint in typing.get_type_hints(type(config)).items():
        value = getattr(config, name)
        if hint is float and isinstance(value, int) and not isinstance(value, bool):
            object.__setattr__(config, name, value := float(value))
        if not _is_a(value, hint):
            raise TypeError(f"{full_name(config, name)}: expected {_describe(hint)}, got {value!r}")
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{full_name(config, name)}: expected a finite number, got {value}")


def _is_a(value: Any, hint: Any) -> bool:
    if typing.get_origin(hint) is tuple:
        return isinstance(value, tuple) and all(_is_a(item, typing.get_args(hint)[0]) for item in value)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


def _describe(hint: Any) -> str:
    if typing.get_origin(hint) is tuple:
        return f"a tuple of {_describe(typing.get_args(hint)[0])}"
    if isinstance(hint, type) and issubclass(hint, Enum):
        return f"a {hint.__name__} ({names_of(hint)})"
    return {int: "an integer", float: "a number", bool: "true or false", str: "a string"}.get(
        hint, f"a {getattr(hint, '__name__', hint)}"
    )


def names_of(enum: type[Enum]) -> str:
    """The values of an enum, for messages."""
    return ", ".join(str(member.value) for member in enum)


def expect(config: Any, name: str, holds: bool, expected: str) -> None:
    """Check a condition on a field.

    Raises:
        ValueError: If the condition does not hold; the message has the field, the expected values and the value given.
    """
    if not holds:
        value = getattr(config, name)
        raise ValueError(f"{full_name(config, name)}: expected {expected}, got {plain(value)!r}")


def full_name(config: Any, name: str) -> str:
    """A field's name in files and dictionaries; fields of a stage have the name of its table in front."""
    table = type(config).__name__.removesuffix("Config").lower()
    return name if table in ("train", "stage", "triplet") else f"{table}.{name}"

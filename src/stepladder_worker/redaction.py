"""Secrets are not shown and not written down: values of variables such as HF_TOKEN, wherever they turn up.

A secret is known by the name of its variable. Its value is looked for as it is: one that a program encodes, cuts or
prints in pieces is not found. Standard library only, Python 3.10 and newer.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

HIDDEN = "***"
_ENDINGS = ("_TOKEN", "_KEY", "_SECRET", "PASSWORD")
#: Shorter values are hidden under their own names alone: they may well be words of something else.
SHORTEST = 8

_remembered: set[str] = set()


def is_secret(variable: str) -> bool:
    """Whether the value of an environment variable of this name is never shown or written down."""
    return variable.upper().endswith(_ENDINGS)


def remember(env: Mapping[str, Any]) -> None:
    """Secrets among these variables are hidden from now on, as those of this process's environment are."""
    _remembered.update(_values(env))


def remember_values(values: Iterable[str]) -> None:
    """These values are hidden from now on, whatever the names they were given under."""
    _remembered.update(value for value in values if len(value) >= SHORTEST)


def known(env: Mapping[str, Any] | None = None) -> list[str]:
    """Values to hide, those of this environment included, the longest first."""
    found = {*_remembered, *_values(os.environ), *_values(env or {})}
    return sorted(found, key=lambda value: (-len(value), value))


def hide(value: Any, secrets: Iterable[str] | None = None) -> Any:
    """Text, or lists and mappings of it, with `***` for every secret; `secrets` instead of those that are known."""
    found = known() if secrets is None else list(secrets)
    return _hidden(value, found) if found else value


def _values(env: Mapping[str, Any]) -> set[str]:
    found = {str(value) for name, value in env.items() if is_secret(name) and isinstance(value, (str, int))}
    return {value for value in found if len(value) >= SHORTEST}


def _hidden(value: Any, secrets: list[str]) -> Any:
    if isinstance(value, str):
        for secret in secrets:
            value = value.replace(secret, HIDDEN)
        return value
    if isinstance(value, Mapping):
        return {_hidden(key, secrets): _hidden(item, secrets) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_hidden(item, secrets) for item in value)
    return value

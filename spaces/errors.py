"""Errors that a user can cause, and the one way in which a name is looked up in a table."""

import difflib
from collections.abc import Mapping
from typing import TypeVar

T = TypeVar("T")


class NasError(Exception):
    """Something a user can cause and mend; the text says where, what came and what is allowed."""


class InvalidArch(NasError, ValueError):
    """A text or tuple that is no member of the space."""


class UnknownName(NasError, KeyError):
    """A name that a table does not hold."""

    def __str__(self) -> str:
        return str(self.args[0])  # KeyError would print the quoted representation


def did_you_mean(name: str, known: Mapping[str, object] | list[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the known name closest to ``name``, or nothing."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""


def look_up(table: Mapping[str, T], name: str, *, kind: str) -> T:
    """Return ``table[name]``.

    Args:
        table: The registry.
        name: What the user wrote.
        kind: What the table holds, for the message: ``"proxy"``, ``"space"``.

    Raises:
        UnknownName: The table has no such name; the message lists what it has.
    """
    try:
        return table[name]
    except KeyError:
        known = ", ".join(sorted(table))
        message = f"no {kind} named {name!r}.{did_you_mean(name, table)} Known: {known}"
        raise UnknownName(message) from None

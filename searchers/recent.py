"""What was met lately, in bounded memory."""

from collections.abc import Iterator
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")

#: Entries that are kept for certain. No space with a table has half as many functions.
KEPT = 2**20


class Recent(Generic[K, V]):
    """A mapping that keeps at least the last ``kept`` entries, and at most twice as many.

    Two dictionaries take turns: when the young one is full it becomes the old one, and what was
    old is forgotten. That costs nothing per entry, unlike forgetting one by one.
    """

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self._young: dict[K, V] = {}
        self._old: dict[K, V] = {}

    def __contains__(self, key: object) -> bool:
        return key in self._young or key in self._old

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def __iter__(self) -> Iterator[K]:
        yield from self._old
        yield from self._young

    def __getitem__(self, key: K) -> V:
        return self._young[key] if key in self._young else self._old[key]

    def get(self, key: K) -> V | None:
        """Return what belongs to a key, None where nothing is known."""
        found = self._young.get(key)
        return self._old.get(key) if found is None else found

    def __setitem__(self, key: K, value: V) -> None:
        if key in self._old:
            del self._old[key]
        self._young[key] = value
        if len(self._young) >= self._kept:
            self._old, self._young = self._young, {}

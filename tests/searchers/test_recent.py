"""Bounded memory: the last entries are there, more than twice as many are not."""

from hypothesis import given
from hypothesis import strategies as st

from searchers.recent import Recent


@given(st.lists(st.integers(0, 30), max_size=200), st.integers(1, 12))
def test_the_last_entries_are_kept_and_memory_is_bounded(keys: list[int], kept: int) -> None:
    recent: Recent[int, int] = Recent(kept)
    for place, key in enumerate(keys):
        recent[key] = place
        latest = {key: at for at, key in enumerate(keys[: place + 1])}
        newest_first = sorted(latest, key=latest.__getitem__, reverse=True)
        for known in newest_first[:kept]:
            assert known in recent
            assert recent[known] == recent.get(known) == latest[known]
        assert len(recent) == len(list(recent)) <= 2 * kept
        assert set(recent) <= set(latest)
    assert 99 not in recent
    assert recent.get(99) is None

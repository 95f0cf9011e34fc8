"""Statistics are measured once, kept as they were, and survive a process that is killed."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from nas.design.archive import Archive, identity
from nas.design.atoms import ROLES
from nas.design.layers import Sample, join
from nas.proxies.base import Conditions
from spaces import Arch, Space
from spaces.errors import NasError
from spaces.nats_tss import NATS_TSS
from tests.nas.design.toys import DEAD, toy_measure

ROLE_NAMES = ("relu", "weight")
ARCHS: list[Arch] = [DEAD, *(tuple(row) for row in NATS_TSS.all()[::781].tolist()[1:])]  # 21
CONDITIONS = Conditions()


class Counting:
    """Measures, and remembers what it was asked; stops when it has been asked so often."""

    def __init__(self, most: int = 1000) -> None:
        self.asked: list[Arch] = []
        self.left = most

    def __call__(
        self,
        space: Space,
        archs: Sequence[Arch],
        conditions: Conditions,
        wanted: Mapping[str, Sequence[str]],
    ) -> Sample:
        self.left -= 1
        if self.left < 0:
            raise RuntimeError("killed")
        self.asked += archs
        return toy_measure(space, archs, conditions, wanted)


def opened(folder: Path, conditions: Conditions = CONDITIONS) -> Archive:
    return Archive(folder, NATS_TSS, conditions, ROLE_NAMES)


def same(sample: Sample, archs: Sequence[Arch]) -> None:
    wanted = {role: ROLES[role].names for role in ROLE_NAMES}
    expected = toy_measure(NATS_TSS, archs, CONDITIONS, wanted)
    for role in ROLE_NAMES:
        found = sample[role]
        assert found.values.dtype == np.float32
        np.testing.assert_array_equal(found.values, expected[role].values.astype(np.float32))
        np.testing.assert_array_equal(found.offsets, expected[role].offsets)
        np.testing.assert_array_equal(found.counts, expected[role].counts)
        assert found.dead is not None
        assert found.dead.tolist() == [arch == DEAD for arch in archs]


def test_what_is_kept_is_what_was_measured(tmp_path: Path) -> None:
    measure = Counting()
    with opened(tmp_path) as archive:
        archive.add(ARCHS, measure, batch=4)
        same(archive.sample(ARCHS), ARCHS)
        same(archive.sample(ARCHS[5:2:-1]), ARCHS[5:2:-1])
    with opened(tmp_path) as archive:
        assert len(archive) == len(ARCHS)
        archive.add(ARCHS[3:], measure)
        same(archive.sample([ARCHS[7], ARCHS[7]]), [ARCHS[7], ARCHS[7]])
        assert archive.dead(ARCHS).tolist() == [arch == DEAD for arch in ARCHS]
    assert measure.asked == ARCHS, "each was measured once"


def test_it_goes_on_where_it_was(tmp_path: Path) -> None:
    with opened(tmp_path) as archive, pytest.raises(RuntimeError, match="killed"):
        archive.add(ARCHS, Counting(3), batch=4)
    measure = Counting()
    told: list[tuple[int, int]] = []
    with opened(tmp_path) as archive:
        archive.add(ARCHS, measure, lambda *now: told.append(now), batch=4)
        same(archive.sample(ARCHS), ARCHS)
    assert measure.asked == ARCHS[12:]
    assert told == [(4, 9), (8, 9), (9, 9)]


@pytest.mark.parametrize("half", ["index", "rows", "both"])
def test_half_a_batch_is_cut_off(tmp_path: Path, half: str) -> None:
    # A process may be killed at any byte: within the rows of a batch, or within its line.
    with opened(tmp_path) as archive:
        archive.add(ARCHS[:8], Counting(), batch=4)
        folder = archive.folder
    index, rows = folder / "index.jsonl", folder / "relu.f32"
    if half in ("rows", "both"):
        with rows.open("ab") as stream:
            stream.write(b"\1" * 37)
    if half in ("index", "both"):
        lines = index.read_bytes()
        index.write_bytes(lines[: len(lines) - 5])
    measure = Counting()
    with opened(tmp_path) as archive:
        archive.add(ARCHS, measure, batch=4)
        same(archive.sample(ARCHS), ARCHS)
    assert measure.asked == ARCHS[4 if half != "rows" else 8 :]


def line(arch: list[int], dead: list[bool], length: int) -> bytes:
    lengths = {role: [length] for role in ROLE_NAMES}
    return json.dumps({"archs": [arch], "dead": dead, "lengths": lengths}).encode() + b"\n"


@pytest.mark.parametrize(
    "damage",
    [
        b"{not json}\n",
        b"[]\n",
        line([9] * 6, [False], 1),
        line([1] * 6, [], 1),
        line([1] * 6, [True], -1),
        b"[" * 100_000 + b"\n",
    ],
    ids=["no json", "no mapping", "a stranger", "a flag short", "a length below 0", "depth"],
)
def test_an_index_that_is_damaged_is_told(tmp_path: Path, damage: bytes) -> None:
    with opened(tmp_path) as archive:
        archive.add(ARCHS[:8], Counting())
        index = archive.folder / "index.jsonl"
    content = index.read_bytes() + damage
    index.write_bytes(content)
    with pytest.raises(NasError, match=r"index\.jsonl:2: damaged .*remove"):
        opened(tmp_path)
    assert index.read_bytes() == content


def test_rows_that_are_missing_are_told(tmp_path: Path) -> None:
    with opened(tmp_path) as archive:
        archive.add(ARCHS[:8], Counting())
        folder = archive.folder
    with (folder / "weight.f32").open("r+b") as stream:
        stream.truncate(8)
    with pytest.raises(NasError, match=r"weight\.f32: shorter than its index says; remove"):
        opened(tmp_path)


def test_what_the_numbers_depend_on_has_a_folder_of_its_own(tmp_path: Path) -> None:
    with opened(tmp_path) as first, opened(tmp_path, Conditions(seed=1)) as second:
        assert first.folder != second.folder
        about = json.loads((second.folder / "about.json").read_text())
        assert about == json.loads(json.dumps(identity(NATS_TSS, Conditions(seed=1), ROLE_NAMES)))
        first.add(ARCHS[:2], Counting())
        assert (len(first), len(second)) == (2, 0)


def test_two_processes_do_not_write_at_once(tmp_path: Path) -> None:
    with opened(tmp_path), pytest.raises(NasError, match="another process is writing"):
        opened(tmp_path)
    with opened(tmp_path):
        pass


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NasError, match="cannot be written"):
        opened(tmp_path / "file")


def test_parts_are_joined_in_order() -> None:
    wanted = {"relu": ROLES["relu"].names}
    parts = [
        toy_measure(NATS_TSS, some, CONDITIONS, wanted)["relu"] for some in (ARCHS[:3], ARCHS[3:])
    ]
    whole = toy_measure(NATS_TSS, ARCHS, CONDITIONS, wanted)["relu"]
    joined = join(parts)
    np.testing.assert_array_equal(joined.values, whole.values)
    np.testing.assert_array_equal(joined.offsets, whole.offsets)
    assert joined.dead is not None
    assert joined.dead.sum() == 1

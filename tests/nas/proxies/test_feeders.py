"""The two feeders agree: hooks on one network, and the network that runs a whole batch."""

import numpy as np
import pytest
import torch
from torch import nn

from nas.networks.events import Event
from nas.networks.module import feed_module
from nas.proxies import Conditions, ProxySpec
from nas.proxies.routes import judge, judge_one_by_one
from spaces import SPACES, CellSpace, Space

BATCHED = ["meco", "meco:hooks=conv", "meco_opt", "meco_opt:hooks=relu"]
BATCHED_SPACES = [
    space for space in SPACES.values() if isinstance(space, CellSpace) or space.name == "nats_sss"
]


def degenerate(space: Space) -> list[tuple[int, ...]]:
    """All of one choice each: all none, all skip, all pooling, all convolution; all as wide."""
    sizes = space.dimensions
    return [tuple(min(k, size - 1) for size in sizes) for k in range(max(sizes))]


@pytest.mark.parametrize("name", BATCHED)
@pytest.mark.parametrize("space", BATCHED_SPACES, ids=lambda space: space.name)
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-4), ("float64", 1e-10)])
def test_both_feeders_give_the_same_scores(
    space: Space, name: str, dtype: str, tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(1)
    drawn = [space.sample(rng) for _ in range(8)] + degenerate(space)
    population = np.unique(space.canonicalise(np.asarray(drawn)), axis=0)
    conditions = Conditions(resolution=16, dtype=dtype)  # type: ignore[arg-type]
    spec = [ProxySpec.parse(name)]
    with monkeypatch.context() as patch:  # a batch that breaks would be scored one by one
        patch.setattr("nas.proxies.routes.judge_one_by_one", lambda *args: pytest.fail("broke"))
        batched = judge(space, spec, population, conditions)[0]
    single = judge_one_by_one(space, spec, population, conditions)[0]
    assert batched == pytest.approx(single, rel=tolerance, abs=1e-9)
    if dtype == "float64":
        rounded = [np.round(np.asarray(row, dtype=float), 9) for row in (batched, single)]
        ranks = [np.argsort(row, kind="stable").tolist() for row in rounded]
        assert ranks[0] == ranks[1]


class _Recorder:
    totals = torch.zeros(1)
    roles = frozenset({"relu", "conv", "norm", "other"})

    def __init__(self) -> None:
        self.events: list[tuple[str, int, int]] = []

    def wants(self, channels: int, positions: int) -> bool:
        return True

    def hear(self, event: Event) -> None:
        (role,) = event.counts
        self.events.append((role, event.map_id, event.affine_id))

    def scores(self) -> torch.Tensor:
        return torch.zeros(1)


def test_repeated_maps_are_recognised() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU(inplace=True))
    recorder = _Recorder()
    feed_module(net, torch.randn(1, 3, 4, 4), [recorder])
    (conv, norm, relu, root) = recorder.events
    assert [e[0] for e in recorder.events] == ["conv", "norm", "relu", "other"]
    assert conv[1] != norm[1]
    assert conv[2] == norm[2]  # an affine copy
    assert relu[1] not in (conv[1], norm[1])  # in place, yet another map
    assert relu[1] == root[1]  # the container hands on what its last member made


def test_hooks_are_gone_even_when_the_network_fails() -> None:
    class Fails(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("no")

    net = nn.Sequential(nn.Conv2d(3, 4, 1), Fails())
    with pytest.raises(RuntimeError, match="no"):
        feed_module(net, torch.randn(1, 3, 4, 4), [_Recorder()])
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


def test_images_from_a_file(tmp_path: object) -> None:
    from pathlib import Path

    folder = Path(str(tmp_path))
    rng = np.random.default_rng(0)
    np.save(folder / "a.npy", rng.integers(0, 256, (2, 16, 16, 3), dtype=np.uint8))
    space: Space = SPACES["nats_tss"]
    population = np.asarray([[3, 3, 3, 3, 3, 3]])
    spec = [ProxySpec.parse("meco")]
    noise = judge(space, spec, population, Conditions(resolution=16))
    image = judge(space, spec, population, Conditions(resolution=16, images=str(folder / "a.npy")))
    assert noise != image


def test_the_number_of_workers_changes_nothing() -> None:
    space = SPACES["nats_tss"]
    population = np.unique(space.canonicalise(space.all()[:300]), axis=0)[:80]  # two parts
    specs = [ProxySpec.parse("meco"), ProxySpec.parse("meco_opt:hooks=reference")]
    before = torch.get_num_threads()
    scores = []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            scores.append(judge(space, specs[:1], population, Conditions(resolution=8)))
            scores[-1] += judge(space, specs[1:], population[:4], Conditions(resolution=8))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert scores[0] == scores[1]

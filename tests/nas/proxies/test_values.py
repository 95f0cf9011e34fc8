"""Numbers worked out by hand, apart from the code."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nas.networks.module import ModuleNetwork, feed_module
from nas.proxies import Conditions, ProxyError, ProxySpec, score_batch
from nas.proxies.spectrum import correlation, smallest_correlation_eigenvalue
from spaces import Arch
from spaces.nats_sss import NATS_SSS
from spaces.nats_tss import NATS_TSS

ONE = ModuleNetwork(nn.Identity(), 0, seeded=False)
H0 = 0.5 * math.log(2 * math.pi * math.e)  # 1.4189, entropy of a unit Gaussian


def only(space: object, name: str, arch: Arch, **conditions: int) -> float | ProxyError:
    spec = ProxySpec.parse(name)
    return score_batch(space, [spec], [arch], Conditions(**conditions))[0][0]  # type: ignore[arg-type]


def test_the_correlation_of_three_channels_by_hand() -> None:
    # x = (-1, 0, 1, 0), y = (0, -1, 0, 1): uncorrelated; z = x + y has correlation 1/sqrt(2) with
    # each. Eigenvalues of [[1,0,r],[0,1,r],[r,r,1]], r = 1/sqrt(2): 1, 1 +- sqrt(2) r = 1, 2, 0.
    maps = torch.tensor([[-1.0, 0, 1, 0], [0, -1, 0, 1], [-1, -1, 1, 1]]).view(1, 3, 2, 2)
    matrix, constant = correlation(maps)
    r = 1 / math.sqrt(2)
    assert matrix[0].flatten().tolist() == pytest.approx([1, 0, r, 0, 1, r, r, r, 1], abs=1e-6)
    assert not constant.any()
    assert smallest_correlation_eigenvalue(maps).item() == pytest.approx(0.0, abs=1e-6)
    # Two channels of correlation r: eigenvalues 1 - r and 1 + r.
    assert smallest_correlation_eigenvalue(maps[:, 1:]).item() == pytest.approx(1 - r, abs=1e-6)


def test_an_affine_map_per_channel_changes_nothing() -> None:
    maps = torch.randn((2, 4, 5, 5), generator=torch.Generator().manual_seed(0))
    scaled = maps * torch.tensor([2.0, -3.0, 0.1, 7.0])[:, None, None] + 5.0
    first, second = (smallest_correlation_eigenvalue(x) for x in (maps, scaled))
    assert first.tolist() == pytest.approx(second.tolist(), rel=1e-4)


@pytest.mark.parametrize("value", [0.0, 3.0, 1e6])
def test_a_constant_channel_gives_exactly_zero(value: float) -> None:
    maps = torch.randn((1, 4, 5, 5), generator=torch.Generator().manual_seed(0))
    maps[:, 2] = value
    assert smallest_correlation_eigenvalue(maps).item() == 0.0


def test_more_channels_than_centred_positions_give_exactly_zero() -> None:
    maps = torch.randn((1, 9, 3, 3), generator=torch.Generator().manual_seed(0))
    assert smallest_correlation_eigenvalue(maps).item() == 0.0
    assert smallest_correlation_eigenvalue(maps[:, :8]).item() > 0.0


class _Copy(nn.Module):
    """Hands on a fixed map, so that each module's output is known."""

    def __init__(self, maps: Tensor) -> None:
        super().__init__()
        self.maps = maps

    def forward(self, images: Tensor) -> Tensor:
        return self.maps


@pytest.mark.parametrize(
    ("hooks", "expected"),
    [
        # The first map has correlation r = 1/sqrt(2): 1 - r. Its ReLU: x = (0,0,1,0), y = (0,0,1,1)
        # after the order below; centred: (-1,-1,3,-1)/4 and (-1,-1,1,1)/2, correlation
        # (1+1+3-1)/8 / (sqrt(12)/4 * 1) = 1/sqrt(3): 1 - 1/sqrt(3).
        ("relu", 1 - 1 / math.sqrt(3)),
        ("unique", 1 - 1 / math.sqrt(2) + 1 - 1 / math.sqrt(3)),
        # _Copy once; the ReLU once; the Sequential repeats the ReLU's output: one map, two counts.
        ("reference", 1 - 1 / math.sqrt(2) + 2 * (1 - 1 / math.sqrt(3))),
    ],
)
def test_meco_counts_maps_as_its_readings_say(hooks: str, expected: float) -> None:
    maps = torch.tensor([[-1.0, 0, 1, 0], [-1, -1, 1, 1]]).view(1, 2, 2, 2)
    net = nn.Sequential(_Copy(maps), nn.ReLU())
    spec = ProxySpec.parse(f"meco:hooks={hooks}")
    assert spec.proxy.listener is not None
    listener = spec.proxy.listener(ONE, Conditions(), spec.options)
    feed_module(net, torch.zeros(1, 3, 2, 2), [listener])
    assert listener.scores().item() == pytest.approx(expected, abs=1e-6)


def test_meco_opt_weighs_by_width() -> None:
    # Orthogonal channels: any two of the four have correlation 0, smallest eigenvalue 1, times 4/2.
    maps = torch.tensor(
        [[1.0, -1, 0, 0, 0, 0], [0, 0, 1, -1, 0, 0], [0, 0, 0, 0, 1, -1], [1, 1, 0, 0, -1, -1]]
    ).view(1, 4, 2, 3)
    spec = ProxySpec.parse("meco_opt:hooks=unique,channels=2")
    assert spec.proxy.listener is not None
    listener = spec.proxy.listener(ONE, Conditions(), spec.options)
    feed_module(_Copy(maps), torch.zeros(1, 3, 2, 2), [listener])
    assert listener.scores().item() == pytest.approx(2.0, abs=1e-6)


def test_the_reference_reading_makes_the_hook_calls_that_the_authors_script_makes() -> None:
    # All 3x3: per cell six blocks of ReLU, convolution and three times the result (BN, Sequential,
    # block), and the cell; 15 cells. Three Sequentials of cells. Stem: convolution and three times
    # BN's map: BN, Sequential make two here. Two reductions: pool, two 1x1 (convolution,
    # Sequential), two blocks of five, the block itself: 14. Last BN, its ReLU twice. The body,
    # global pooling and the root are ours; pooling has one position and counts 0.
    calls = []

    class Counter:
        totals = torch.zeros(1)
        roles = frozenset({"relu", "conv", "norm", "pool", "skip", "other"})

        def wants(self, channels: int, positions: int) -> bool:
            return positions > 1

        def hear(self, event: object) -> None:
            calls.append(event)

        def scores(self) -> Tensor:
            return torch.zeros(1)

    feed_module(NATS_TSS.build((3,) * 6), torch.randn(1, 3, 16, 16), [Counter()])
    body = 1
    assert len(calls) == 15 * (6 * 5 + 1) + 3 + 3 + 2 * 14 + 3 + body


def test_sed_of_a_small_cell_by_hand() -> None:
    # 0-1 conv 3x3, 1-3 avg_pool, 0-3 skip; the 1x1 on 0-2 is dead.
    arch = NATS_TSS.from_str(
        "|nor_conv_3x3~0|+|nor_conv_1x1~0|none~1|+|skip_connect~0|avg_pool_3x3~1|none~2|"
    )
    operations = (H0 + math.log(3)) - math.log(3)
    flow = H0 + 0.5 * math.log(10 / 9 + 1)  # V = 1 * 10 * 1/9 + 1
    assert only(NATS_TSS, "sed", arch) == pytest.approx(operations + flow)
    assert only(NATS_TSS, "sed:flow=0.0", arch) == pytest.approx(operations)
    assert only(NATS_TSS, "entropy_flow", arch) == pytest.approx(flow)
    assert only(NATS_TSS, "sed:skip=0.5,flow=0.0", arch) == pytest.approx(operations - 0.5)


def test_sed_of_no_path_is_a_failure() -> None:
    result = only(NATS_TSS, "sed", (0,) * 6)
    assert isinstance(result, ProxyError)
    assert str(result) == "sed: no path from input to output (the score would be -inf)"
    assert isinstance(only(NATS_TSS, "entropy_flow", (0,) * 6), ProxyError)


def test_sed_grows_with_width() -> None:
    narrow, wide = (only(NATS_SSS, "sed", arch) for arch in ((0,) * 5, (7,) * 5))
    assert isinstance(narrow, float)
    assert isinstance(wide, float)
    assert wide > narrow


def test_params_and_flops_of_a_published_row() -> None:
    # Row 0 of the topology benchmark: 0.129306 M parameters, 15.647370 M FLOPs on CIFAR-10.
    arch = NATS_TSS.at(0)
    assert only(NATS_TSS, "params", arch) == 129306
    assert only(NATS_TSS, "flops", arch) == 15647370
    assert only(NATS_TSS, "flops", arch, num_classes=120, resolution=16) == 3919480


def test_seeded_weights_follow_the_default_distribution() -> None:
    from nas.networks.weights import layer_weight

    weight = layer_weight(0, "somewhere", (64, 32, 3, 3)).numpy()
    bound = 1 / math.sqrt(32 * 9)
    assert abs(weight).max() <= bound
    assert abs(weight).max() > 0.99 * bound
    assert weight.mean() == pytest.approx(0, abs=0.02 * bound)
    assert weight.std() == pytest.approx(bound / math.sqrt(3), rel=0.02)
    narrow = layer_weight(0, "somewhere", (16, 8, 3, 3)).numpy()
    assert np.allclose(narrow / math.sqrt(32 * 9 / (8 * 9)), weight[:16, :8], atol=1e-6)

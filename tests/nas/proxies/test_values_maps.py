"""Numbers worked out by hand for proxies that hear feature maps."""

import math

import pytest
import torch
from torch import Tensor, nn

from nas.networks.weights import layer_weight
from nas.proxies import Conditions, ProxyError
from nas.proxies.nwot import log_determinant
from nas.proxies.routes import one_repeat
from tests.nas.proxies.by_hand import SEED, Block, ask_all, ask_net, conv, doubles, given, vectors


class Add(nn.Module):
    """Adds a number."""

    def __init__(self, number: float) -> None:
        super().__init__()
        self.number = number

    def forward(self, x: Tensor) -> Tensor:
        return x + self.number


class Times(nn.Module):
    """Multiplies each channel by a number."""

    def __init__(self, *numbers: float) -> None:
        super().__init__()
        self.numbers = doubles(numbers)[:, None, None]

    def forward(self, x: Tensor) -> Tensor:
        return x * self.numbers


# Three images of four units. Two ReLUs: of x, and of x - 2.
#        x          first bits   second bits
#   3  1 -1 -1        1100         1000
#  -1  3  1 -1        0110         0100
#   1  1  3  3        1111         0011
THREE = given(vectors((3, 1, -1, -1), (-1, 3, 1, -1), (1, 1, 3, 3)))


def two_relus() -> nn.Module:
    return nn.Sequential(nn.ReLU(), Add(-2), nn.ReLU())


def test_nwot_of_three_images() -> None:
    # In how many bits they agree: K1 = [[4, 2, 2], [2, 4, 2], [2, 2, 4]], determinant 2 * 2 * 8;
    # K2 = [[4, 2, 1], [2, 4, 1], [1, 1, 4]], 4 * 15 - 2 * 7 + 1 * -2 = 44.
    # K1 + K2 = [[8, 4, 3], [4, 8, 3], [3, 3, 8]], 8 * 55 - 4 * 23 + 3 * -12 = 312.
    assert ask_net("nwot", nn.ReLU(), THREE) == pytest.approx(math.log(32), rel=1e-12)
    assert ask_net("nwot", two_relus(), THREE) == pytest.approx(math.log(312), rel=1e-12)
    by_layer = ask_net("nwot_by_layer", two_relus(), THREE)
    assert by_layer == pytest.approx(math.log(32) + math.log(44), rel=1e-12)


def test_nwot_of_two_images_of_the_same_bits_is_a_failure() -> None:
    images = given(vectors((3, 1, -1, -1), (1, 2, -3, -4), (1, 1, 3, 3)))
    for value in ask_all(["nwot", "nwot_by_layer"], nn.ReLU(), images):
        assert isinstance(value, ProxyError)
        assert "two images set the same ReLUs" in str(value)
    # They agree in the first map, not in all: x - 1.5 tells them apart.
    net = nn.Sequential(nn.ReLU(), Add(-1.5), nn.ReLU())
    whole, by_layer = ask_all(["nwot", "nwot_by_layer"], net, images)
    assert isinstance(whole, float)
    assert isinstance(by_layer, ProxyError)


def test_a_singular_matrix_of_integers_has_no_small_determinant() -> None:
    # Four vectors of three numbers: rank 3, but rounding leaves a determinant of 2e-11.
    vectors = doubles([[5, 8, 6], [1, 4, 4], [4, 8, 2], [4, 6, 3]])
    matrices = torch.stack([vectors @ vectors.T, torch.eye(4).double()])
    assert log_determinant(matrices).tolist() == [-math.inf, 0.0]


def test_swap_counts_patterns_of_units_once_in_the_whole_network() -> None:
    # Columns of the first bits: 101, 111, 011, 001. Of the second: 100, 010, 001, 001.
    assert ask_net("swap", nn.ReLU(), THREE) == 4
    assert ask_net("swap", two_relus(), THREE) == 6


def test_swap_of_more_images_than_a_word_has_bits() -> None:
    # Units: on for all 66 images; on for all but the last; for all but the 65th; the first again.
    bits = torch.ones(66, 1, 1, 4)
    bits[65, 0, 0, 1] = bits[64, 0, 0, 2] = -1
    assert ask_net("swap", nn.ReLU(), given(bits)) == 3


def test_swap_reg_is_swap_times_a_factor_of_the_size() -> None:
    # 6 patterns; 2 * 1 * 5 * 5 weights and no other: T = 0.00005; (T - 1)^2 / 2.
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.relus = two_relus()
            self.unused = nn.Conv2d(1, 2, 5)

        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = self.relus(x)
            return result

    expected = 6 * math.exp(-((0.00005 - 1) ** 2) / 2)
    value = ask_net("swap_reg:mu=1.0,sigma=2.0", Net(), THREE)
    assert value == pytest.approx(expected, rel=1e-12)


PIXELS = given(torch.zeros(2, 1, 3, 3))
MIDDLE = [[0, 0, 0], [0, 1, 0], [0, 0, 0]]
CORNER = [[1, 0, 0], [0, 0, 0], [0, 0, 0]]
MINUS = [[0, 0, 0], [0, -1, 0], [0, 0, 0]]


@pytest.mark.parametrize(
    ("channels", "regions"),
    [
        ([MIDDLE], 2),  # one number of either sign
        ([MIDDLE, CORNER], 4),  # two
        ([MIDDLE, MINUS], 2),  # the same one from both sides
        ([MIDDLE, CORNER, MINUS], 4),
        ([MIDDLE] * 70, 2),  # more bits than a word has
        ([MIDDLE] * 70 + [CORNER], 4),
        ([MIDDLE] * 70 + [CORNER] * 70, 4),
    ],
)
def test_linear_regions_of_a_few_relus(channels: list[object], regions: int) -> None:
    # A thousand images of 3x3 pixels; the window takes one pixel of them.
    net = nn.Sequential(conv([[rows] for rows in channels]), nn.ReLU())
    assert ask_net("linear_regions", net, PIXELS) == regions
    # A second layer cuts no pixel elsewhere: the ReLU of a ReLU is as positive as that.
    assert ask_net("linear_regions", nn.Sequential(net, nn.ReLU()), PIXELS) == regions


def test_linear_regions_of_many_relus() -> None:
    # Signs of nine pixels: 512 patterns, each missed by a thousand images with (511/512)^1000, so
    # 439.6 are expected; the standard deviation is 6.5.
    assert ask_net("linear_regions", nn.ReLU(), PIXELS) == pytest.approx(439.6, abs=4 * 6.5)
    # As many images as can be told apart, if they are few.
    assert 1 <= ask_net("linear_regions:samples=3", nn.ReLU(), PIXELS) <= 3
    assert ask_net("linear_regions:size=8", nn.ReLU(), PIXELS) == 1000


ROUNDING = 1e-5  # of x + a e, which is drawn in float32


def mean_change(images: Tensor) -> float:
    """Mean length of the changes that Zen-score makes, and that it finds again if f is linear."""
    _, changes = images.chunk(2)
    return float(changes.flatten(1).norm(dim=1).mean())


def test_zen_of_a_scale() -> None:
    # f(x) = 3 x: f(x + a e) - f(x) = 3 a e, a = 0.01.
    images = given(torch.zeros(4, 1, 2, 2))
    change = mean_change(images.noise(8, "zen").double())
    assert ask_net("zen", Times(3), images) == pytest.approx(math.log(0.03 * change), abs=ROUNDING)
    value = ask_net("zen:change=0.5", Times(3), images)
    assert value == pytest.approx(math.log(1.5 * change), abs=ROUNDING)


def test_zen_puts_the_scale_back_that_a_batch_norm_takes_out() -> None:
    # f(x) = (s x - mean) / sqrt(s^2 var + eps), plus ln sqrt(s^2 var): the scale s as before, but
    # for eps. Two channels of scales s and q share the mean of their variances.
    images = given(torch.zeros(64, 2, 4, 4))
    noise = images.noise(128, "zen").double()
    pairs = torch.cat([noise[:64], noise[:64] + 0.01 * noise[64:]])
    variance = pairs.transpose(0, 1).flatten(1).var(dim=1, correction=0) * doubles([9, 400])
    change = noise[64:] * doubles([3, 20])[:, None, None]
    change = 0.01 * change / (variance[:, None, None] + 1e-5).sqrt()
    expected = math.log(change.flatten(1).norm(dim=1).mean()) + math.log(variance.mean()) / 2
    net = nn.Sequential(Times(3, 20), nn.BatchNorm2d(2))
    assert ask_net("zen", net, images) == pytest.approx(expected, abs=ROUNDING)


def test_zen_draws_normal_weights() -> None:
    # One weight w, drawn anew whatever the network came with: |w| a ||e||.
    images = given(torch.zeros(4, 1, 2, 2))
    seed = one_repeat(Conditions(seed=SEED), 0).seed
    weight = layer_weight(seed, "0", (1, 1, 1, 1), "gaussian").abs().item()
    expected = math.log(weight * 0.01 * mean_change(images.noise(8, "zen").double()))
    for own in (1.0, 1000.0):
        net = nn.Sequential(conv([[[[own]]]]))
        assert ask_net("zen", net, images) == pytest.approx(expected, abs=ROUNDING)


def test_zen_of_a_constant_is_a_failure() -> None:
    (value,) = ask_all(["zen"], Times(0), given(torch.zeros(4, 1, 2, 2)))
    assert isinstance(value, ProxyError)
    assert "does not depend on the image" in str(value)


# Two channels at four places: (2, -2, 2, -2) and 7 + (1, 1, -1, -1). They do not correlate; squares
# 16 and 4: shares 4/5 and 1/5.
PLACES = given(torch.tensor([[[[2.0, -2]], [[8, 8]]], [[[2, -2]], [[6, 6]]]]))
FOUR_TO_ONE = -(0.8 * math.log(0.8) + 0.2 * math.log(0.2))


def test_az_expressivity_and_progressivity() -> None:
    # Blocks: as it is; the first channel halved (shares 1/2: ln 2); that once more (1 to 4); the
    # second channel taken away (one component: 0).
    blocks = [Block(Times(*numbers)) for numbers in ((1, 1), (0.5, 1), (0.5, 1), (1, 0))]
    names = ["az_expressivity", "az_progressivity"]
    two = ask_all(names, nn.Sequential(*blocks[:2]), PLACES)
    assert two == pytest.approx([FOUR_TO_ONE + math.log(2), math.log(2) - FOUR_TO_ONE])
    three = ask_all(names, nn.Sequential(*blocks[:3]), PLACES)
    assert three == pytest.approx([2 * FOUR_TO_ONE + math.log(2), FOUR_TO_ONE - math.log(2)])
    four = ask_all(names, nn.Sequential(*blocks), PLACES)
    assert four == pytest.approx([2 * FOUR_TO_ONE + math.log(2), -FOUR_TO_ONE])


def test_az_expressivity_of_a_mixture_is_that_of_its_parts() -> None:
    # A rotation of the channels: other channels, the same principal components.
    rotation = conv([[[[0.6]], [[0.8]]], [[[-0.8]], [[0.6]]]])
    net = nn.Sequential(Block(rotation))
    assert ask_net("az_expressivity", net, PLACES) == pytest.approx(FOUR_TO_ONE, rel=1e-12)


def test_az_of_no_block_or_of_a_constant_one_is_a_failure() -> None:
    names = ["az_expressivity", "az_progressivity"]
    for net in (nn.Sequential(nn.ReLU()), nn.Sequential(Block(Times(0, 0)), Block(Times(1, 1)))):
        for value in ask_all(names, net, PLACES):
            assert isinstance(value, ProxyError)
    (value,) = ask_all(["az_progressivity"], nn.Sequential(Block(Times(1, 1))), PLACES)
    assert isinstance(value, ProxyError)
    assert "fewer than two building blocks" in str(value)


#: Two channels of four positions with squared correlation 4 ** 2 / (4 * 6) = 2 / 3, and others.
CORRELATED = given(doubles([[[[1, -1], [1, -1]], [[2, -1], [0, -1]]]]))
FOUR_CHANNELS = given(
    doubles([[[[1, -1], [1, -1]], [[1, 1], [-1, -1]], [[2, -1], [0, -1]], [[1, -1], [-1, 1]]]])
)


def test_decorrelation() -> None:
    same = Block(Times(3, -2))  # scale and sign of a channel do not matter
    one, two = nn.Sequential(same), nn.Sequential(same, Block(Times(1, 1)))
    for net in (one, two):  # a mean over blocks
        assert ask_net("decorrelation", net, CORRELATED) == pytest.approx(math.log(1 / 3))
    # Groups 0, 2 (as above) and 1, 3 (no correlation): a mean over groups.
    net = nn.Sequential(Block(Times(1, 1, 1, 1)))
    half = ask_net("decorrelation:channels=2", net, FOUR_CHANNELS)
    assert half == pytest.approx(math.log(1 / 3) / 2)
    # The second channel is the first: eigenvalues 2 and, in place of 0, 1e-6.
    copied = nn.Sequential(Block(conv([[[[1]], [[0]]], [[[1]], [[0]]]])))
    twice = ask_net("decorrelation", copied, CORRELATED)
    assert twice == pytest.approx(math.log(2) + math.log(1e-6), rel=1e-9)


def test_norm_growth() -> None:
    doubled, third = Block(Times(2, 2)), Block(Times(1 / 3, 1 / 3))
    one = nn.Sequential(doubled)
    assert ask_net("norm_growth", one, CORRELATED) == pytest.approx(math.log(2), rel=1e-12)
    both = nn.Sequential(doubled, third)
    assert ask_net("norm_growth", both, CORRELATED) == pytest.approx(math.log(2 / 3), rel=1e-12)
    # Sums of squares: 4 + 6 enter; 4 and 4 * 6 leave. Per entry, whatever the channels.
    uneven = nn.Sequential(Block(Times(1, 2)))
    assert ask_net("norm_growth", uneven, CORRELATED) == pytest.approx(math.log(28 / 10) / 2)
    first = nn.Sequential(Block(conv([[[[1]], [[0]]]])))
    assert ask_net("norm_growth", first, CORRELATED) == pytest.approx(math.log(1 / (10 / 8)) / 2)


def test_blocks_that_lower_the_resolution_are_not_looked_at() -> None:
    halved = Block(nn.AvgPool2d(2))
    net = nn.Sequential(Block(Times(2, 2)), halved)
    assert ask_net("norm_growth", net, CORRELATED) == pytest.approx(math.log(2), rel=1e-12)
    for value in ask_all(["norm_growth", "decorrelation"], nn.Sequential(halved), CORRELATED):
        assert isinstance(value, ProxyError)
        assert "no building block keeps the resolution" in str(value)


def test_norm_growth_of_nothing_is_a_failure() -> None:
    net = nn.Sequential(Block(Times(0, 0)), Block(Times(1, 1)))
    (value,) = ask_all(["norm_growth"], net, CORRELATED)
    assert isinstance(value, ProxyError)

"""Numbers worked out by hand for proxies that read gradients or weights."""

import math

import pytest
import torch
from torch import Tensor, nn

from nas.proxies import ProxyError
from tests.nas.proxies.by_hand import Block, ask_all, ask_net, conv, given, linear, vectors

LN3 = math.log(3)
K = 1e-5  # of jacov and epe_nas

# Logits are W x with W = [[ln 3, 1], [0, 1]].
#   x = (1, 0), label 0: logits (ln 3, 0), softmax (3/4, 1/4), p - y = (-1/4, 1/4)
#   x = (0, 2), label 1: logits (2, 2),    softmax (1/2, 1/2), p - y = (1/2, -1/2)
# Gradient of the mean loss, 1/2 sum of (p - y) x^T:  G = [[-1/8, 1/2], [1/8, -1/2]].
TWO = given(vectors((1, 0), (0, 2)), [0, 1])


def two_classes() -> nn.Module:
    return nn.Sequential(nn.Flatten(), linear([[LN3, 1], [0, 1]]))


def test_grad_norm_of_a_linear_layer() -> None:
    expected = math.sqrt(2 / 64 + 2 / 4)
    assert ask_net("grad_norm", two_classes(), TWO) == pytest.approx(expected, rel=1e-12)


def test_snip_of_a_linear_layer() -> None:
    # |ln 3 * -1/8| + |1 * 1/2| + |0 * 1/8| + |1 * -1/2|
    assert ask_net("snip", two_classes(), TWO) == pytest.approx(LN3 / 8 + 1, rel=1e-12)


def test_plain_of_a_linear_layer() -> None:
    # ln 3 * -1/8 + 1/2 - 1/2: the same products with their signs
    assert ask_net("plain", two_classes(), TWO) == pytest.approx(-LN3 / 8, rel=1e-12)


def test_the_norms_of_two_layers_are_added_and_biases_do_not_count() -> None:
    # h = (2 x1, 0), logits (h1 + 0, h1 + 0) + 7: softmax 1/2. Both images (1, 5) of label 0:
    # p - y = (-1/2, 1/2). dL/dV = (p - y) h^T = [[-1, 0], [1, 0]], norm sqrt 2.
    # dL/dh = V^T (p - y) = (1 * -1/2 + 1 * 1/2, 3 * -1/2 + 1 * 1/2) = (0, -1);
    # dL/dW = [[0, 0], [-1, -5]], norm sqrt 26.
    net = nn.Sequential(nn.Flatten(), linear([[2, 0], [0, 0]]), linear([[1, 3], [1, 1]], [7, 7]))
    images = given(vectors((1, 5), (1, 5)), [0, 0])
    expected = {
        "grad_norm": math.sqrt(2) + math.sqrt(26),
        "snip": 1 + 1,  # V: |1 * -1| + |1 * 1|; W: its rows 0 and 1 have no gradient, no weight
        "plain": -1 + 1,
        "l2_norm": 2 + math.sqrt(12),
    }
    values = ask_all(list(expected), net, images)
    assert values == pytest.approx(list(expected.values()), rel=1e-12, abs=1e-12)


def test_labels_turn_gradients_round() -> None:
    # Labels (1, 0): p - y = (3/4, -3/4) and (-1/2, 1/2); G = [[3/8, -1/2], [-3/8, 1/2]].
    images = given(vectors((1, 0), (0, 2)), [1, 0])
    values = ask_all(["grad_norm", "snip", "plain"], two_classes(), images)
    expected = [math.sqrt(2 * 9 / 64 + 2 / 4), LN3 * 3 / 8 + 1, LN3 * 3 / 8]
    assert values == pytest.approx(expected, rel=1e-12)


def test_grasp_of_a_linear_layer() -> None:
    # H V = 1/2 sum over images of S V x x^T, S = diag(p) - p p^T = p1 p2 [[1, -1], [-1, 1]].
    #   x = (1, 0): G x = (-1/8, 1/8), S G x = 3/16 (-1/4, 1/4) = (-3/64, 3/64)
    #   x = (0, 2): G x = (1, -1),     S G x = 1/4 (2, -2) = (1/2, -1/2), times x: (1, -1)
    # H G = [[-3/128, 1/2], [3/128, -1/2]];  - sum W * H G = 3 ln 3 / 128 - 1/2 - 0 + 1/2.
    assert ask_net("grasp", two_classes(), TWO) == pytest.approx(3 * LN3 / 128, rel=1e-12)


def test_fisher_of_a_linear_layer() -> None:
    # a * dL/da, image by image, dL/da = (p - y) / 2: (ln 3 * -1/8, 0) and (2 * 1/4, 2 * -1/4).
    # Half the mean of the squares, by channel: (ln^2 3 / 64 + 1/4) / 4 and (0 + 1/4) / 4.
    once = (LN3**2 / 64 + 1 / 2) / 4
    assert ask_net("fisher:per_weight=false", two_classes(), TWO) == pytest.approx(once, rel=1e-12)
    # Each of the two channels has two weights.
    assert ask_net("fisher", two_classes(), TWO) == pytest.approx(2 * once, rel=1e-12)


def test_fisher_adds_up_positions_before_it_squares() -> None:
    # Image (1, 3); channels (2, 6) and (1, 3); logits (2 + 6 - 2 - 6, 0) = 0. Label 0, twice:
    # dL/dlogits = 1/2 (-1/2, 1/2), dL/da = -1/4 in the first channel, +1/2 in the second.
    # Sums over positions: -(2 + 6) / 4 = -2 and (1 + 3) / 2 = 2; half their squares: 2 + 2.
    # The logits are 0, and so is the linear layer's part.
    net = nn.Sequential(
        conv([[[[2]]], [[[1]]]]), nn.Flatten(), linear([[1, 1, -2, -2], [0, 0, 0, 0]])
    )
    images = given(vectors((1, 3), (1, 3)), [0, 0])
    assert ask_net("fisher", net, images) == pytest.approx(4.0, rel=1e-12)


def test_l2_norm_of_a_convolution_and_a_linear_layer() -> None:
    net = nn.Sequential(conv([[[[1, 2, 2]]]]), nn.Flatten(), linear([[3, 4]], [100]))
    assert ask_net("l2_norm", net, given(vectors((1, 1, 1, 1)))) == pytest.approx(3 + 5)


def test_synflow_of_two_linear_layers() -> None:
    # |W| 1 = (1 + 2, 3 + 4), with |b| = (1, 0): h = (4, 7); R = 1 * 4 + 2 * 7 = 18.
    # Last layer: its weights times their gradients are R. First: R without what b gives, 17.
    net = nn.Sequential(
        nn.Flatten(), linear([[1, -2], [3, 4]], [-1, 0]), nn.ReLU(), linear([[-1, 2]])
    )
    expected = math.log(18 + 17)
    assert ask_net("synflow", net, given(vectors((5, -9)))) == pytest.approx(expected, rel=1e-12)


def test_synflow_with_a_batch_norm_in_evaluation_mode() -> None:
    # Two ones, times 3, over sqrt(1 + eps): R = (1 + 2) * 3 / sqrt(1 + eps), once per layer.
    net = nn.Sequential(conv([[[[-3]]]]), nn.BatchNorm2d(1), nn.Flatten(), linear([[1, -2]]))
    expected = math.log(2 * 9 / math.sqrt(1 + 1e-5))
    assert ask_net("synflow", net, given(vectors((5, -9)))) == pytest.approx(expected, rel=1e-12)


def test_synflow_without_a_path_is_a_failure() -> None:
    net = nn.Sequential(nn.Flatten(), linear([[0, 0]]))
    (value,) = ask_all(["synflow"], net, given(vectors((1, 1))))
    assert str(value) == "synflow: no path from image to logits (the score would be -inf)"


# One logit, the sum of two ReLUs. The first image sets the first alone, the second the second, so
# that the gradients by the pixels are the rows u = (3, 1, 2, 2) and v = (1, 0, -1, 0). Without
# their means they are (1, -1, 0, 0) and (1, 0, -1, 0): correlation 1/2.
ALONE = vectors((0, 1, 0, 0), (0, 0, -1, 0))  # u x: 1 and -2; v x: 0 and 1


def two_units(v: tuple[float, ...] = (1, 0, -1, 0), classes: int = 1) -> nn.Module:
    rows = [[1.0, 1.0], *([[0.0, 0.0]] * (classes - 1))]
    return nn.Sequential(nn.Flatten(), linear([(3, 1, 2, 2), v]), nn.ReLU(), linear(rows))


def test_jacov_of_two_images_of_correlation_one_half() -> None:
    # Eigenvalues of [[1, 1/2], [1/2, 1]]: 1/2 and 3/2.
    expected = -sum(math.log(x + K) + 1 / (x + K) for x in (0.5, 1.5))
    assert ask_net("jacov", two_units(), given(ALONE)) == pytest.approx(expected, rel=1e-12)


def test_jacov_of_uncorrelated_images() -> None:
    # v = (0, 0, 1, -1) is orthogonal to (1, -1, 0, 0): the identity, eigenvalues 1 and 1.
    images = given(vectors((0, 1, 0, 0), (0, 0, -2, -3)))  # u x: 1 and -10; v x: 0 and 1
    expected = -2 * (math.log(1 + K) + 1 / (1 + K))
    value = ask_net("jacov", two_units((0, 0, 1, -1)), images)
    assert value == pytest.approx(expected, rel=1e-12)


def test_jacov_of_a_constant_gradient_is_a_failure() -> None:
    # Neither ReLU is set: the gradient is 0, and has no correlation.
    images = given(vectors((0, 1, 0, 0), (0, -5, 0, 0)))
    (value,) = ask_all(["jacov"], two_units(), images)
    assert isinstance(value, ProxyError)
    assert "the gradient by an image is constant" in str(value)


def test_epe_nas_of_one_class_and_of_two() -> None:
    # One class: ln over the entries of [[1, 1/2], [1/2, 1]].
    one = abs(2 * math.log(1 + K) + 2 * math.log(0.5 + K))
    assert ask_net("epe_nas", two_units(), given(ALONE, [0, 0])) == pytest.approx(one, rel=1e-12)
    # A class each: [1] and [1].
    two = 2 * math.log(1 + K)
    assert ask_net("epe_nas", two_units(), given(ALONE, [0, 1])) == pytest.approx(two, rel=1e-12)


def test_epe_nas_of_three_images() -> None:
    # The third sets the first ReLU again: gradients u, v, u.
    images = vectors((0, 1, 0, 0), (0, 0, -1, 0), (0, 2, 0, 0))
    alike = 4 * math.log(1 + K) + math.log(1 + K)  # classes {u, u} and {v}
    value = ask_net("epe_nas", two_units(), given(images, [4, 2, 4]))
    assert value == pytest.approx(alike, rel=1e-9)
    unlike = -2 * math.log(1 + K) - 2 * math.log(0.5 + K) + math.log(1 + K)  # {u, v} and {u}
    value = ask_net("epe_nas", two_units(), given(images, [4, 4, 2]))
    assert value == pytest.approx(unlike, rel=1e-12)


def test_epe_nas_of_more_than_a_hundred_classes() -> None:
    # 101 logits, 100 of them 0. Classes {1, 2} and {3} (gradient u): t = s / n.
    #   t_1 = (2 ln(1 + k) + 2 ln(1/2 + k)) / 2,  t_2 = ln(1 + k)
    # Mean over the classes of the distances to all: (|t_1 - t_2| + |t_2 - t_1|) / 2.
    images = given(vectors((0, 1, 0, 0), (0, 0, -1, 0), (0, 2, 0, 0)), [0, 0, 7])
    expected = abs(math.log(1 + K) + math.log(0.5 + K) - math.log(1 + K))
    value = ask_net("epe_nas", two_units(classes=101), images)
    assert value == pytest.approx(expected, rel=1e-12)


def test_labels_are_needed_where_they_are_read() -> None:
    names = ["epe_nas", "fisher", "grad_norm", "grasp", "plain", "snip", "zico", "gradsign"]
    for name, value in zip(
        names, ask_all(names, two_classes(), given(ALONE[..., :2])), strict=True
    ):
        assert str(value) == f"{name}: the images have no labels"


def test_zico_of_two_layers_and_two_minibatches() -> None:
    # h = (x1, x1), logits (h1 - h2, 0) = (0, 0): softmax 1/2. Two images are a minibatch.
    #   (1, 2), label 0: p - y = (-1/2, 1/2);  (3, 2), label 1: p - y = (1/2, -1/2)
    # dL/dV = (p - y) h^T: entries of size 1/2, then 3/2: mean 1, deviation 1/2, so 2; four of them.
    # dL/dW = V^T (p - y) x^T = -+1/2 (1, -1)^T x^T: first column of size 1/2, then 3/2: 2 and 2;
    # second column of size 1 both times: left out. (With its sign it would vary.)
    net = nn.Sequential(nn.Flatten(), linear([[1, 0], [1, 0]]), linear([[1, -1], [0, 0]]))
    images = given(vectors((1, 2), (1, 2), (3, 2), (3, 2)), [0, 0, 1, 1], minibatch=2)
    expected = math.log(8) + math.log(4)
    assert ask_net("zico", net, images) == pytest.approx(expected, rel=1e-12)


def test_zico_of_three_minibatches() -> None:
    # One weight per class, W = 0: dL/dw = -+x/2. |g| = 1/2, 3/2, 5/2: mean 3/2, deviation
    # sqrt(2/3); two weights.
    net = nn.Sequential(nn.Flatten(), linear([[0], [0]]))
    images = given(vectors((1,), (1,), (3,), (3,), (5,), (5,)), [0] * 6, minibatch=2)
    expected = math.log(2 * 1.5 / math.sqrt(2 / 3))
    assert ask_net("zico:minibatches=3", net, images) == pytest.approx(expected, rel=1e-12)


def test_zico_where_nothing_varies_is_a_failure() -> None:
    images = given(vectors((1, 2), (1, 2), (1, 2), (1, 2)), [0] * 4, minibatch=2)
    (value,) = ask_all(["zico"], two_classes(), images)
    assert isinstance(value, ProxyError)
    assert "no gradient varies between minibatches" in str(value)


def test_gradsign_of_three_images() -> None:
    # W = 0: softmax 1/2, gradient of image n: -+1/2 x^T. Signs of the first row, (label 0: -x):
    #   (1, 2), label 0: - -     (3, -1), label 0: - +     (0, 1), label 1: 0 +
    # sums -2 and 1, and the same with the other sign in the second row: 2 + 1 + 2 + 1.
    net = nn.Sequential(nn.Flatten(), linear([[0, 0], [0, 0]]))
    images = given(vectors((1, 2), (3, -1), (0, 1)), [0, 0, 1])
    assert ask_net("gradsign", net, images) == 6.0
    assert ask_net("gradsign:images=2", net, images) == 2 + 0 + 2 + 0


def test_ntk_of_a_linear_layer() -> None:
    # Gradient of the summed logits by W: x in both rows. J_n . J_m = 2 x_n . x_m, that is,
    # 2 [[1, 1], [1, 2]], eigenvalues 3 -+ sqrt 5: ratio (3 + sqrt 5)^2 / 4.
    images = given(vectors((1, 0), (1, 1)))
    expected = -((3 + math.sqrt(5)) ** 2) / 4
    assert ask_net("ntk", two_classes(), images) == pytest.approx(expected, rel=1e-12)


def test_ntk_of_two_layers() -> None:
    # W = I, V = diag(1, 2). Gradient of both logits together: dV = h in both rows.
    #   (1, 0): h = (1, 0), dW = 1 x in the first row;  (0, 2): h = (0, 2), dW = 2 x in the second
    # J . J = [[2 * 1 + 1, 0], [0, 2 * 4 + 4 * 4]], ratio 24 / 3.
    net = nn.Sequential(nn.Flatten(), linear([[1, 0], [0, 1]]), nn.ReLU(), linear([[1, 0], [0, 2]]))
    images = given(vectors((1, 0), (0, 2)))
    assert ask_net("ntk", net, images) == pytest.approx(-8.0, rel=1e-12)


def test_ntk_of_dependent_images_is_a_failure() -> None:
    # Three images of two numbers: one eigenvalue is 0, but for rounding.
    images = given(vectors((0.1, 0.7), (0.3, 0.2), (0.5, 0.9)))
    (value,) = ask_all(["ntk"], two_classes(), images)
    assert str(value) == "ntk: the kernel is singular (the score would be nan)"


def test_vkdnw_of_one_layer() -> None:
    # One weight, one eigenvalue: nine deciles of one ninth each. One layer.
    value = ask_net("vkdnw", two_classes(), given(vectors((1, 0), (3, 2))))
    assert value == pytest.approx(1 + math.log(9), rel=1e-12)


def evenness(low: float, high: float) -> float:
    """Entropy of the nine deciles of two numbers, in shares of their sum."""
    deciles = [low + k / 10 * (high - low) for k in range(1, 10)]
    return -sum(x / sum(deciles) * math.log(x / sum(deciles)) for x in deciles)


def test_vkdnw_of_two_layers() -> None:
    # h = (1, 1) for (1, 0) and (2, 2 + ln 3) for (0, 2); logits = h: softmax (1/2, 1/2) and
    # (1/4, 3/4), S = p1 p2 [[1, -1], [-1, 1]] with p1 p2 = 1/4 and 3/16.
    # First weights: d logits / d W_00 = (x1, 0), d logits / d V_00 = (h1, 0). J^T S J is
    # p1 p2 (x1, h1)^T (x1, h1), of (1, 1) and (0, 2): F = 1/8 [[1, 1], [1, 4]], eigenvalues
    # (5 -+ sqrt 13) / 16.
    net = nn.Sequential(nn.Flatten(), linear([[1, 1], [1, 1 + LN3 / 2]]), linear([[1, 0], [0, 1]]))
    images = given(vectors((1, 0), (0, 2)))
    entropy = evenness((5 - math.sqrt(13)) / 16, (5 + math.sqrt(13)) / 16)
    assert ask_net("vkdnw", net, images) == pytest.approx(2 + entropy, rel=1e-9)
    assert ask_net("vkdnw:layers=false", net, images) == pytest.approx(entropy, rel=1e-9)


def test_az_trainability_of_blocks_of_one_channel() -> None:
    # Where one channel leaves, w w^T is 1 and A = W^T is exact.
    #   2 -> 1 channels, weights (3, 4): s = 5, 2 - 5 - 1/5
    #   1 -> 1, window 2x2 with stride 2, weights 1, 2, 3, 6: their mean is 3; 2 - 3 - 1/3
    net = nn.Sequential(
        Block(nn.Identity()),
        Block(conv([[[[3]], [[4]]]])),
        Block(conv([[[[1, 2], [3, 6]]]], stride=2)),
    )
    images = given(torch.zeros(2, 2, 4, 4))
    expected = ((2 - 5 - 1 / 5) + (2 - 3 - 1 / 3)) / 2
    assert ask_net("az_trainability", net, images) == pytest.approx(expected, rel=1e-12)


def test_az_trainability_of_a_rotation_is_nearly_zero() -> None:
    # A = W^T E[w w^T]; over 2 * 256 places the product of two random signs has a mean of 0.04, so
    # s = 1.04 and 2 - s - 1/s about -0.002.
    net = nn.Sequential(
        Block(nn.Identity()), Block(conv([[[[0.6]], [[0.8]]], [[[-0.8]], [[0.6]]]]))
    )
    value = ask_net("az_trainability", net, given(torch.zeros(2, 2, 16, 16)))
    assert -0.02 < value < 0


def test_az_trainability_needs_two_blocks_and_a_path() -> None:
    one = nn.Sequential(Block(nn.Identity()))
    dead = nn.Sequential(Block(nn.Identity()), Block(conv([[[[0]]]])))
    images = given(torch.ones(2, 1, 2, 2))
    assert "two building blocks" in str(ask_all(["az_trainability"], one, images)[0])
    assert "no gradient passes a block" in str(ask_all(["az_trainability"], dead, images)[0])


class Heard(nn.Module):
    """A ReLU that is heard but leads nowhere, and logits that are linear in the image."""

    def __init__(self, rows: Tensor) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        self.weight = nn.Parameter(rows)

    def forward(self, x: Tensor) -> Tensor:
        self.relu(x)
        return x.flatten(1) @ self.weight.T


def test_dextr_of_a_linear_map() -> None:
    # ReLU of the first image, two channels of two positions: [[3, 0], [0, 1]], s = 3 and 1:
    # a = ln(1 + 1/3).
    # The circle is 2 (u cos t + v sin t), D = 4; logits (u, 2 v) x: an ellipse 2 (cos t, 2 sin t).
    # h' = 2 (-sin t, 2 cos t), h" = 2 (-cos t, -2 sin t): |h' x h"| = 8 for all t.
    # t = 0 and pi: |h'| = 4, 8 / 64; t = pi/2 and 3 pi/2: |h'| = 2, 8 / 8. Mean 9/16: b = ln 25/16.
    # The four between: h' . h" is not 0, |h'|^2 = 10, 8 / 10^1.5. Mean of all: the mean of both.
    images = given(torch.tensor([[[[3.0, -1]], [[-2, 1]]]] * 2))
    noise = images.noise(2, "dextr").flatten(1).double()
    u = noise[0] / noise[0].norm()
    v = noise[1] - noise[1] @ u * u
    net = Heard(torch.stack([u, 2 * v / v.norm()]))
    a = math.log(4 / 3)
    for points, mean in ((4, 9 / 16), (8, (9 / 16 + 8 / 10**1.5) / 2)):
        b = math.log(1 + mean)
        value = ask_net(f"dextr:points={points}", net, images)
        assert value == pytest.approx(a * b / (a + b), rel=1e-9)


def test_dextr_of_logits_that_stand_still_is_a_failure() -> None:
    images = given(torch.tensor([[[[3.0, -1]], [[-2, 1]]]] * 2))
    (value,) = ask_all(["dextr"], Heard(torch.zeros(2, 4)), images)
    assert isinstance(value, ProxyError)
    assert "the logits do not change along the circle" in str(value)

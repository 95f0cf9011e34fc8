"""Networks of all kinds, run alone: what is heard of them, and gradients image by image."""

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas.networks.forward import ForwardError
from nas.networks.module import ModuleNetwork
from nas.proxies import PROXIES, ProxyError
from nas.seeds import seeded_torch
from tests.nas.proxies.by_hand import ask_all, ask_net, given, linear, vectors


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def seeded(net: Callable[[], nn.Module]) -> nn.Module:
    with seeded_torch(0, "weights"):
        return net().double()


class Called(nn.Module):
    """A function as a module: what stands in a network's ``forward``."""

    def __init__(self, function: Callable[[Tensor], Tensor], *members: nn.Module) -> None:
        super().__init__()
        self.function = function
        self.members = nn.ModuleList(members)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def between_convolutions(activation: nn.Module) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), activation,
        nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), activation,
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3),
    )  # fmt: skip


IMAGES = given(noise(8, 3, 6, 6), [k % 3 for k in range(8)], minibatch=4)
HEARERS = ["meco", "nwot", "nwot_by_layer", "swap", "dextr:points=1"]


@pytest.mark.parametrize(
    "function",
    [
        F.relu,
        torch.relu,
        Tensor.relu,
        lambda x: torch.relu(input=x),
        lambda x: F.relu(input=x),
        lambda x: F.relu(x, inplace=True),
        lambda x: F.relu_(x),
        lambda x: x.relu_(),
        lambda x: torch.relu_(x),
    ],
)
def test_a_relu_is_heard_once_however_it_is_called(function: Callable[[Tensor], Tensor]) -> None:
    modules = ask_all(HEARERS, seeded(lambda: between_convolutions(nn.ReLU())), IMAGES)
    functions = ask_all(HEARERS, seeded(lambda: between_convolutions(Called(function))), IMAGES)
    assert functions == modules
    assert not any(isinstance(value, ProxyError) for value in modules)


@pytest.mark.parametrize(
    ("module", "function"),
    [
        (nn.GELU(), F.gelu),
        (nn.SiLU(), F.silu),
        (nn.ReLU6(), F.relu6),
        (nn.LeakyReLU(), F.leaky_relu),
        (nn.Hardswish(), F.hardswish),
        (nn.ELU(), F.elu),
        (nn.Mish(), F.mish),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_other_activations_are_heard_too(
    module: nn.Module, function: Callable[[Tensor], Tensor]
) -> None:
    modules = ask_all(HEARERS[:-1], seeded(lambda: between_convolutions(module)), IMAGES)
    called = seeded(lambda: between_convolutions(Called(function)))
    assert ask_all(HEARERS[:-1], called, IMAGES) == modules


def test_an_activation_inside_an_activation_module_is_not_heard_twice() -> None:
    class Own(nn.ReLU):
        def forward(self, x: Tensor) -> Tensor:
            return F.relu(x)

    three = given(vectors((3, 1, -1, -1), (-1, 3, 1, -1), (1, 1, 3, 3)))
    assert ask_net("nwot", Own(), three) == ask_net("nwot", nn.ReLU(), three)


BY_GRADIENT = ["snip", "grad_norm", "plain", "fisher", "jacov", "gradsign", "ntk", "zico", "grasp"]


def test_a_module_in_place_behind_a_convolution_spoils_no_gradient() -> None:
    def net(inplace: bool) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.ReLU(inplace), nn.Conv2d(4, 4, 3), nn.ReLU(inplace),
            nn.Flatten(), nn.Linear(16, 3),
        )  # fmt: skip

    plainly, in_place = (
        ask_all(BY_GRADIENT, seeded(lambda inplace=inplace: net(inplace)), IMAGES)  # type: ignore[misc]
        for inplace in (False, True)
    )
    assert in_place == plainly
    assert not any(isinstance(value, ProxyError) for value in plainly)


def test_a_function_in_place_behind_a_convolution_is_told() -> None:
    net = seeded(
        lambda: nn.Sequential(
            nn.Conv2d(3, 4, 3), Called(Tensor.relu_), nn.Flatten(), nn.Linear(64, 3)
        )
    )
    names = ["nwot", "snip", "fisher", "plain"]
    heard, *rest = ask_all(names, net, IMAGES)
    assert heard == ask_net("nwot", net, IMAGES)  # the broken pass before does not count
    for name, value in zip(names[1:], rest, strict=True):
        assert str(value) == f"{name}: the network changes the output of a layer in place"


@pytest.mark.parametrize(
    ("form", "kind"), [(lambda x: (x, x), "tuple"), (lambda x: {"logits": x}, "dict")]
)
def test_a_network_that_returns_no_tensor(form: Callable[[Tensor], Tensor], kind: str) -> None:
    net = seeded(lambda: nn.Sequential(between_convolutions(nn.ReLU()), Called(form)))
    heard = ["nwot", "nwot_by_layer", "swap", "meco", "az_expressivity"]
    asks = ["snip", "jacov", "ntk", "dextr"]
    together = ask_all([*asks[:2], *heard, *asks[2:]], net, IMAGES)
    # What only listens needs no logits, and has not heard the passes that broke.
    alone = [ask_all([name], net, IMAGES)[0] for name in heard]
    assert [str(x) for x in together[2:7]] == [str(x) for x in alone]
    assert isinstance(alone[0], float)
    for name, value in zip(asks, together[:2] + together[7:], strict=True):
        assert str(value) == f"{name}: the network returns {kind}, not a tensor of logits"


@pytest.mark.parametrize(
    "call",
    [lambda whole: whole.feed(IMAGES.first(), [], "default"), lambda x: x.run(IMAGES.first())],
    ids=["feed", "run"],
)
def test_hooks_are_gone_after_an_exception(call: Callable[[ModuleNetwork], object]) -> None:
    def fails(x: Tensor) -> Tensor:
        raise RuntimeError("no")

    block = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU())
    net = nn.Sequential(Called(torch.neg, block), Called(fails)).double()
    mine = net[0].register_forward_hook(lambda *args: None)
    whole = ModuleNetwork(net, 0, seeded=False)
    with pytest.raises(RuntimeError, match="no"):
        call(whole)
    left = [hook for m in net.modules() for hook in (*m._forward_hooks, *m._forward_pre_hooks)]
    assert left == [mine.id]


class Tokens(nn.Module):
    """Patches, a mixing of tokens and one of channels with GELU, and a linear classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 10, 2, 2)
        self.norm = nn.LayerNorm(10)
        self.across = nn.Linear(9, 9)
        self.widen = nn.Linear(10, 20)
        self.narrow = nn.Linear(20, 10)
        self.head = nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).mT  # (M, 9, 10)
        x = x + self.across(self.norm(x).mT).mT
        x = x + self.narrow(F.gelu(self.widen(self.norm(x))))
        logits: Tensor = self.head(x.mean(dim=1))
        return logits


#: They need an architecture of a space, building blocks, or images of a few pixels.
ELSEWHERE = {"sed", "params", "flops", "linear_regions", "formula"}
ELSEWHERE |= {"az_expressivity", "az_progressivity", "az_trainability"}
ELSEWHERE |= {"decorrelation", "norm_growth", "entropy_flow", "ensemble", "zero_shot", "predicted"}


def test_a_network_of_linear_layers_and_gelu() -> None:
    names = [name for name in PROXIES if name not in ELSEWHERE]
    for name, value in zip(names, ask_all(names, seeded(Tokens), IMAGES), strict=True):
        assert isinstance(value, float), value
        assert math.isfinite(value), name


def odd_layers() -> nn.Module:
    """A network with everything that a gradient by images has to know about a layer."""
    return nn.Sequential(
        nn.Conv2d(3, 4, (3, 2), stride=(2, 1), padding=(1, 0)), nn.Tanh(),
        nn.Conv2d(4, 8, 3, padding=2, dilation=2, groups=2), nn.Tanh(),
        nn.Conv2d(8, 8, 1, bias=False, groups=8), nn.Flatten(2),
        nn.Linear(15, 6), nn.Tanh(), nn.Flatten(), nn.Linear(48, 5),
    )  # fmt: skip


class Reused(nn.Module):
    """A convolution and a linear layer that are used twice, and two layers with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.line = nn.Linear(108, 108)
        self.tied = nn.Linear(108, 108, bias=False)
        self.tied.weight = self.line.weight
        self.head = nn.Linear(108, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.conv(torch.tanh(self.conv(x)))).flatten(1)
        x = torch.tanh(self.line(x) + torch.tanh(self.line(x / 2)))
        logits: Tensor = self.head(self.tied(x))
        return logits


@pytest.mark.parametrize("make", [odd_layers, Tokens, Reused])
def test_gradients_by_image_are_those_of_each_image_alone(make: Callable[[], nn.Module]) -> None:
    images = noise(4, 3, 6, 6)
    labels = torch.tensor([0, 1, 2, 1])
    net = seeded(make)
    run = ModuleNetwork(net, 0, seeded=False).run(images, labels, norm="image")
    weights = {id(weight): weight for weight in run.weights}
    whole = dict[int, Tensor]()
    for layer, gradient in run.gradients_by_image(run.losses):
        assert id(layer.weight) not in whole
        whole[id(layer.weight)] = gradient[0]
    first = {id(x.weight): g[0] for x, g in run.first_weight_by_image(run.losses)}
    assert whole.keys() == first.keys() == weights.keys()
    assert len(whole) == len(run.weights)  # each weight is listed once
    for number in range(4):
        (loss,) = run.losses[0, number][None]
        expected = torch.autograd.grad(loss, list(weights.values()), retain_graph=True)
        for key, gradient in zip(weights, expected, strict=True):
            assert whole[key][number] == pytest.approx(gradient.flatten(), abs=1e-12)
            assert first[key][number].item() == pytest.approx(gradient.flatten()[0].item())


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (nn.Conv2d(3, 4, 3, padding="same"), "two-dimensional convolutions"),
        (nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"), "two-dimensional convolutions"),
        (Called(lambda x: x.flatten(2), nn.Flatten()), None),
    ],
)
def test_what_has_no_gradient_by_image_says_so(layer: nn.Module, reason: str | None) -> None:
    net = seeded(lambda: nn.Sequential(layer, nn.ReLU(), nn.Flatten(), nn.LazyLinear(3)))
    net(IMAGES.taken[0][:1])  # the lazy layer takes its size
    for value in ask_all(["ntk", "gradsign"], net, IMAGES):
        assert isinstance(value, float) if reason is None else str(reason) in str(value)


def test_a_layer_that_is_given_its_input_by_name() -> None:
    class ByName(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)
            self.head = nn.Linear(64, 3)

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.head(self.conv(input=x).flatten(1))
            return logits

    net = seeded(ByName)
    assert isinstance(ask_net("snip", net, IMAGES), float)
    (value,) = ask_all(["ntk"], net, IMAGES)
    assert "plain convolutions and linear layers" in str(value)


def test_a_shared_weight_counts_once() -> None:
    first, second = linear([[3, 0], [0, 4]]), linear([[1, 0], [0, 1]])
    second.weight = first.weight
    net = nn.Sequential(nn.Flatten(), first, second)
    assert ask_net("l2_norm", net, given(vectors((1, 1)))) == pytest.approx(5.0)


def test_a_weight_that_is_used_twice_has_one_gradient() -> None:
    # Logits (w (w x), 0), label 0: dl/dw = (p - 1) 2 w x, negative for both images.
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.line = linear([[2]])

        def forward(self, x: Tensor) -> Tensor:
            y = self.line(self.line(x.flatten(1)))
            return torch.cat([y, torch.zeros_like(y)], dim=1)

    images = given(vectors((1,), (3,)), [0, 0])
    assert ask_net("gradsign", Twice(), images) == 2  # one weight, on which both agree
    assert ask_net("vkdnw", Twice(), images) == pytest.approx(1 + math.log(9))  # one layer


def test_batch_norms_that_see_every_image_alone_do_so_for_any_number_of_dimensions() -> None:
    # Of the same maps as 4 x 9 and as 4 x 3 x 3; Dextr takes steps of its own.
    def net(norm: nn.Module, flat: bool) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(3, 4, 2, 2), Called(lambda x: x.flatten(2) if flat else x), norm,
            nn.ReLU(), nn.Flatten(), nn.Linear(36, 3),
        )  # fmt: skip

    for name in ("dextr:points=2", "ntk", "gradsign"):
        flat = ask_net(name, seeded(lambda: net(nn.BatchNorm1d(4), True)), IMAGES)
        square = ask_net(name, seeded(lambda: net(nn.BatchNorm2d(4), False)), IMAGES)
        assert flat == pytest.approx(square, rel=1e-9)


def test_logits_that_do_not_depend_on_the_image() -> None:
    class Constant(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.head(x.new_ones((len(x), 4)))
            return logits

    names = ["jacov", "epe_nas"]
    for value in ask_all(names, seeded(Constant), IMAGES):
        assert "the gradient by an image is constant" in str(value)
    assert isinstance(ask_net("snip", seeded(Constant), IMAGES), float)


def test_labels_beyond_the_logits_are_told() -> None:
    (value,) = ask_all(["snip"], seeded(Tokens), given(noise(2, 3, 6, 6), [0, 3]))
    assert str(value) == "snip: labels go up to 3, but the network returns shape (2, 3)"


def test_a_batch_norm_over_single_numbers_has_no_answer_for_one_image() -> None:
    net = nn.Sequential(
        nn.Flatten(), nn.Linear(108, 4), nn.BatchNorm1d(4), nn.Linear(4, 3)
    ).double()
    with pytest.raises(ForwardError, match="needs more than one image"):
        ModuleNetwork(net, 0, seeded=False).run(IMAGES.first(), norm="image")

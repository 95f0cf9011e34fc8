"""Scores of the user's own networks: any module is scored, and none is changed."""

import copy
import math
import random
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import nas
from nas.proxies import PROXIES, ProxyError, ProxySpec
from nas.proxies.base import Outcome
from spaces import SPACES
from spaces.errors import NasError, UnknownName

SHAPE = (3, 16, 16)
FORWARD = ["meco", "nwot", "zen"]
BACKWARD = ["grad_norm", "snip", "synflow", "zico"]


class Block(nn.Module):
    """A residual block: one ReLU is a function, the other a module in place; so is the sum."""

    def __init__(self, c_in: int, c_out: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(c_out)
        self.relu = nn.ReLU(inplace=True)
        self.short: nn.Module = nn.Identity()
        if stride > 1 or c_in != c_out:
            self.short = nn.Conv2d(c_in, c_out, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        out += self.short(x)
        result: Tensor = self.relu(out)
        return result


class ResNet(nn.Module):
    """Three residual blocks, as people write them."""

    def __init__(self, channels: int = 3, dropout: float = 0.0, classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, 8, 3, padding=1)
        self.blocks = nn.Sequential(Block(8, 8), Block(8, 16, 2), Block(16, 16))
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(16, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(torch.relu(self.stem(x)))
        result: Tensor = self.classifier(self.dropout(F.adaptive_avg_pool2d(x, 1).flatten(1)))
        return result


class Returns(nn.Module):
    """A network that returns something else than logits."""

    def __init__(self, form: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.net = resnet()
        self.form = form

    def forward(self, x: Tensor) -> object:
        return self.form(self.net(x))


def seeded(make: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.default_generator.manual_seed(seed)
        return make()


def resnet(dropout: float = 0.0, channels: int = 3) -> nn.Module:
    return seeded(lambda: ResNet(channels, dropout))


def numbers(scores: dict[str, Outcome]) -> dict[str, float]:
    """The scores, of which none may be a failure."""
    for value in scores.values():
        assert isinstance(value, float), value
    return {name: value for name, value in scores.items() if isinstance(value, float)}


def score(
    net: nn.Module, proxies: list[str], shape: tuple[int, ...] = SHAPE, **settings: object
) -> dict[str, float]:
    given: dict[str, object] = {"minibatch": 8, **settings}
    return numbers(nas.score(net, shape, proxies, **given))  # type: ignore[arg-type]


def some(count: int, seed: int = 0, channels: int = 3) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    images = torch.randn((count, channels, 16, 16), generator=rng)
    return images, torch.randint(10, (count,), generator=rng)


def loader(count: int, seed: int = 0, **settings: object) -> DataLoader[tuple[Tensor, ...]]:
    return DataLoader(TensorDataset(*some(count, seed)), batch_size=5, **settings)  # type: ignore[arg-type]


#: They need a space: one reads architectures, the others compare with those of a sample.
OF_A_SPACE = {"sed", "entropy_flow", "ensemble", "zero_shot", "predicted"}
OF_A_NETWORK = [name for name in PROXIES if name not in OF_A_SPACE]


@pytest.mark.parametrize("name", PROXIES)
def test_every_proxy_has_a_number_or_says_why_not(name: str) -> None:
    value = nas.score(resnet(), SHAPE, [name], minibatch=8)[name]
    if isinstance(value, ProxyError):
        assert str(value).startswith(f"{name}: ")
        assert name in OF_A_SPACE, value
    else:
        assert math.isfinite(value)


def test_a_proxy_of_architectures_says_so() -> None:
    failure = nas.score(resnet(), SHAPE, "sed")["sed"]
    assert str(failure) == "sed: it is defined for architectures of a space, not for a network"
    failure = nas.score(resnet(), SHAPE, "zero_shot")["zero_shot"]
    assert str(failure).endswith(
        "ask for its members: meco, entropy_flow, decorrelation, norm_growth"
    )


def states() -> tuple[object, ...]:
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    return python, str(numpy), torch.get_rng_state().tolist()


def test_everything_is_left_as_it_was() -> None:
    net = resnet(dropout=0.3)
    net.train()
    assert isinstance(net, ResNet)
    net(some(4)[0]).sum().backward()
    net.blocks[1].eval()
    net.stem.weight.requires_grad_(False)
    fired: list[str] = []
    net.stem.register_forward_hook(lambda *_: fired.append("forward"))
    net.register_forward_pre_hook(lambda *_, **__: fired.append("before"), with_kwargs=True)
    net.classifier.register_full_backward_hook(lambda *_: fired.append("backward"))
    net.classifier.weight.register_hook(lambda _: fired.append("weight"))
    objects = {name: (id(x), x._version) for name, x in net.state_dict(keep_vars=True).items()}
    values = copy.deepcopy(net.state_dict())
    gradients = [None if p.grad is None else p.grad.clone() for p in net.parameters()]
    flags = [p.requires_grad for p in net.parameters()]
    modes = [module.training for module in net.modules()]
    hooks = [
        {key: dict(value) for key, value in vars(module).items() if "hooks" in key}
        for module in net.modules()
    ]
    generator = torch.Generator().manual_seed(5)
    batches = loader(40, shuffle=True, generator=generator)
    before, own = states(), generator.get_state()
    nas.score(net, SHAPE, list(PROXIES), batches, minibatch=8, repeats=2)
    assert states() == before
    assert torch.equal(generator.get_state(), own)
    assert fired == []
    after = net.state_dict(keep_vars=True)
    assert {name: (id(x), x._version) for name, x in after.items()} == objects
    assert all(torch.equal(values[name], after[name]) for name in values)
    for parameter, gradient in zip(net.parameters(), gradients, strict=True):
        if gradient is None:
            assert parameter.grad is None
        else:
            assert parameter.grad is not None
            assert torch.equal(gradient, parameter.grad)
    assert [p.requires_grad for p in net.parameters()] == flags
    assert [module.training for module in net.modules()] == modes
    assert hooks == [
        {key: dict(value) for key, value in vars(module).items() if "hooks" in key}
        for module in net.modules()
    ]
    net(some(4)[0]).sum().backward()
    assert fired, "the hooks still work"


def test_the_same_seed_gives_the_same_scores_whatever_is_drawn_around_it() -> None:
    net = resnet(dropout=0.5)
    names = [*FORWARD, *BACKWARD]
    first = score(net, names, seed=3)
    torch.rand(7)
    random.random()
    with torch.no_grad():
        assert score(net, names, seed=3) == first
    with torch.inference_mode():
        assert score(net, names, seed=3) == first
    other = score(net, names, seed=4)
    assert all(first[name] != other[name] for name in names if name != "synflow")
    assert first["synflow"] == other["synflow"], "evaluation mode: nothing is drawn"


def test_what_the_network_draws_by_itself_is_seeded() -> None:
    class Restless(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = resnet()

        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = self.net(x * (1 + random.random() + np.random.rand()))  # noqa: NPY002
            return result + torch.rand(())

    net = Restless()
    before = states()
    first = score(net, ["grad_norm", "zen", "snip"])
    assert states() == before
    assert score(net, ["grad_norm", "zen", "snip"]) == first
    assert score(net, ["zen"])["zen"] == pytest.approx(first["zen"], rel=1e-6)


@pytest.mark.parametrize("name", OF_A_NETWORK)
def test_proxies_asked_together_do_not_change_each_other(name: str) -> None:
    net = resnet(dropout=0.2)
    net.train()
    with torch.no_grad():
        net(some(8)[0])  # running statistics that are not those of a new network
    everything = score(net, OF_A_NETWORK)
    assert score(net, [name])[name] == pytest.approx(everything[name], rel=1e-6)


def test_weights_and_running_statistics_are_used_as_they_came() -> None:
    net, names = resnet(), ["l2_norm", "nwot", "grad_norm", "synflow"]
    first = score(net, names)
    other = score(seeded(ResNet, 1), names)
    assert all(first[name] != other[name] for name in names)
    norms = [p.detach().norm().item() for n, p in net.named_parameters() if p.dim() > 1]
    assert first["l2_norm"] == pytest.approx(sum(norms), rel=1e-6)
    shifted = copy.deepcopy(net)
    assert isinstance(shifted, ResNet)
    for module in shifted.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_var is not None:
            module.running_var.fill_(4.0)
    changed = score(shifted, names)
    assert changed["grad_norm"] == first["grad_norm"], "train mode"
    assert changed["synflow"] < first["synflow"], "evaluation mode"


def mlp() -> nn.Module:
    layers = (nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 5))
    return nn.Sequential(nn.Flatten(), *layers)


def separable() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1, groups=1), nn.BatchNorm2d(16), nn.Hardswish(),
        nn.Conv2d(16, 16, 3, 2, 1, groups=16, bias=False), nn.BatchNorm2d(16), nn.ReLU6(True),
        nn.Conv2d(16, 32, 1, bias=False), nn.BatchNorm2d(32), nn.SiLU(inplace=True),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10),
    )  # fmt: skip


def without_norm() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(True), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3), nn.ReLU(True),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10),
    )  # fmt: skip


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], list[str]]] = {
    "grouped convolutions": (separable, SHAPE, [*FORWARD, *BACKWARD, "fisher", "ntk", "vkdnw"]),
    "no batch-norm": (without_norm, SHAPE, [*FORWARD, *BACKWARD, "fisher", "ntk", "dextr"]),
    "one channel": (lambda: ResNet(1), (1, 12, 10), [*FORWARD, *BACKWARD, "linear_regions"]),
    "no map at all": (mlp, (1, 4, 4), ["nwot", "swap", *BACKWARD, "ntk", "fisher", "jacov"]),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_of_all_kinds(name: str) -> None:
    make, shape, proxies = NETWORKS[name]
    assert len(score(seeded(make), proxies, shape)) == len(proxies)


def test_a_vector_of_units_is_a_map_of_one_position() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 2))
    assert isinstance(net[1], nn.Linear)
    with torch.no_grad():
        net[1].weight.copy_(torch.eye(2))
    images = torch.tensor([[1.0, 1.0], [1.0, -1.0]]).view(2, 1, 1, 2)
    # Bits (1, 1) and (1, 0): they agree in one of two, so K = [[2, 1], [1, 2]].
    got = score(net, ["nwot"], (1, 1, 2), loader=[images], minibatch=2)["nwot"]
    assert got == pytest.approx(math.log(3))


def test_a_network_without_what_a_proxy_hears_is_a_failure_not_a_zero() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Flatten(), nn.LazyLinear(3))
    net(torch.zeros(1, *SHAPE))
    for name in ("meco", "swap", "nwot"):
        failure = str(nas.score(net, SHAPE, [name], minibatch=4)[name])
        assert failure == f"{name}: the network has no map of the kind that it reads"
    assert str(nas.score(mlp(), (1, 4, 4), "meco")["meco"]).endswith("of the kind that it reads")
    assert "no map" not in str(nas.score(net, SHAPE, ["meco:hooks=conv"])["meco:hooks=conv"])


def test_activations_called_as_functions_count_as_modules_do() -> None:
    class Functional(nn.Module):
        def __init__(self, net: nn.Sequential) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: Tensor) -> Tensor:
            for module in self.net:
                x = torch.relu(input=x) if isinstance(module, nn.ReLU) else module(x)
            return x

    net = seeded(without_norm)
    assert isinstance(net, nn.Sequential)
    names = ["meco", "nwot", "swap", "grad_norm"]
    assert score(Functional(net), names) == score(net, names)


def test_the_number_format_is_that_of_the_model() -> None:
    names = ["grad_norm", "nwot", "jacov", "meco", "flops"]
    single, double = score(resnet(), names), score(resnet().double(), names)
    assert double == pytest.approx(single, rel=1e-3)
    assert double["grad_norm"] != single["grad_norm"]
    with pytest.raises(NasError, match="its weights are float16; expected float32 or float64"):
        nas.score(resnet().half(), SHAPE, "meco")


@pytest.mark.parametrize("space", ["nats_tss", "nats_sss", "nasbench101"])
def test_counts_agree_with_the_cost_model_but_for_the_bias_of_the_classifier(space: str) -> None:
    where = SPACES[space]
    for seed in range(3):
        arch = where.sample(np.random.default_rng(seed))
        got = score(where.build(arch, num_classes=7), ["params", "flops"], (3, 32, 32))
        costs = where.costs(np.asarray([arch]), num_classes=7)
        assert got["params"] == costs.params[0]
        assert got["flops"] + 7 == costs.flops[0]


def test_counts_by_hand() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1, groups=1), nn.Flatten(), nn.Linear(64, 5))
    assert score(net, ["params", "flops"], (3, 8, 8)) == {
        "params": 3 * 4 * 9 + 4 + 64 * 5 + 5,
        "flops": 3 * 4 * 9 * 16 + 64 * 5,
    }
    net[2].requires_grad_(False)
    assert score(net, ["params"], (3, 8, 8)) == {"params": 3 * 4 * 9 + 4}

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = self.layer(x.flatten(2)).mean(1)
            return result

    # 10 tokens of width 16: queries, keys, values; two products; output; two linear layers.
    expected = 10 * 16 * 48 + 2 * 10 * 10 * 16 + 10 * 16 * 16 + 2 * 10 * 16 * 32
    assert score(Attention(), ["flops"], (10, 4, 4)) == {"flops": expected}


def test_labels_of_a_loader_are_used() -> None:
    images, labels = some(8)
    names = ["nwot", "grad_norm", "epe_nas"]
    first = score(resnet(), names, loader=[(images, labels)])
    second = score(resnet(), names, loader=[(images, (labels + 1) % 10)])
    assert first["nwot"] == second["nwot"]
    assert first["grad_norm"] != second["grad_norm"]
    assert first["epe_nas"] == pytest.approx(second["epe_nas"]), "the same classes, renamed"
    merged = score(resnet(), names, loader=[(images, labels // 5)])
    assert merged["epe_nas"] != first["epe_nas"]
    assert score(resnet(), ["nwot"], loader=[(images + 1, labels)])["nwot"] != first["nwot"]


def test_batches_of_every_form_are_the_same_images() -> None:
    images, labels = some(20)
    names = ["meco", "grad_norm", "zico"]
    whole = score(resnet(), names, loader=[(images, labels)])
    assert score(resnet(), names, loader=loader(20)) == whole
    parts = (slice(0, 7), slice(7, 20))
    halves = [{"image": images[part], "label": labels[part]} for part in parts]
    assert score(resnet(), names, loader=halves) == whole

    def endless() -> Iterator[list[Tensor]]:
        while True:
            yield [images, labels, images]

    assert score(resnet(), names, loader=endless()) == whole
    unlabelled = nas.score(resnet(), SHAPE, names, [images], minibatch=8)
    assert unlabelled["meco"] == whole["meco"]
    assert str(unlabelled["grad_norm"]) == "grad_norm: the images have no labels"


def test_a_shuffling_loader_shuffles_by_the_seed() -> None:
    first = score(resnet(), ["nwot"], loader=loader(50, shuffle=True))
    assert score(resnet(), ["nwot"], loader=loader(50, shuffle=True)) == first
    assert score(resnet(), ["nwot"], loader=loader(50, shuffle=True), seed=1) != first


def test_every_repeat_takes_further_images() -> None:
    images, labels = some(16)
    halves = [[(images[part], labels[part])] for part in (slice(0, 8), slice(8, 16))]
    single = [score(resnet(), ["nwot", "meco"], loader=half) for half in halves]
    both = score(resnet(), ["nwot", "meco"], loader=[(images, labels)], repeats=2)
    for name, value in both.items():
        assert value == pytest.approx((single[0][name] + single[1][name]) / 2)
    assert score(resnet(), ["nwot"], repeats=2) != score(resnet(), ["nwot"])


def test_a_loader_need_only_last_for_what_is_read() -> None:
    short = loader(7)
    assert score(resnet(), ["meco"], loader=short)
    assert score(resnet(), ["params", "zen"], loader=short)
    with pytest.raises(NasError, match="it ends after 7 images, but 8 are needed"):
        score(resnet(), ["meco", "nwot"], loader=short)
    with pytest.raises(NasError, match="it ends after 15 images, but 16 are needed"):
        score(resnet(), ["zico"], loader=loader(15))
    with pytest.raises(NasError, match="it ends after 15 images, but 16 are needed"):
        score(resnet(), ["nwot"], loader=loader(15), repeats=2)


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ([], "loader: it yields no batch"),
        ([(torch.zeros(8, 1, 16, 16), torch.zeros(8).long())], r"images are \(1, 16, 16\), but"),
        ([(torch.zeros(8, *SHAPE), torch.zeros(8, 10))], "one class number per image, got torch.f"),
        ([(torch.zeros(8, *SHAPE), torch.full((8,), -1))], "one class number per image"),
        ([(torch.zeros(8, *SHAPE), [1] * 8)], "one class number per image, got list"),
        ([[1, 2]], "expected batches of .images, labels. as tensors, got list"),
        (TensorDataset(torch.zeros(8, *SHAPE)), "expected an iterable of batches, got TensorDat"),
    ],
)
def test_a_loader_of_something_else_is_refused(batches: object, message: str) -> None:
    with pytest.raises(NasError, match=message):
        score(resnet(), ["grad_norm"], loader=batches)


def test_more_labels_than_logits_is_a_failure_with_a_reason() -> None:
    images, labels = some(8)
    row = nas.score(resnet(), SHAPE, ["grad_norm", "nwot"], [(images, labels + 90)], minibatch=8)
    assert "labels go up to 99, but the network returns" in str(row["grad_norm"])
    assert isinstance(row["nwot"], float)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"input_shape": (3, 32)}, r"input_shape: expected \(C, H, W\), such as .* got \(3, 32\)"),
        ({"input_shape": (3, 0, 32)}, r"input_shape: expected \(C, H, W\)"),
        ({"input_shape": 32}, r"input_shape: expected \(C, H, W\), .* got 32"),
        ({"model": ResNet}, "expected a torch.nn.Module, got the class ResNet; call it"),
        ({"model": 3}, "expected a torch.nn.Module, got int"),
        ({"input_shape": (1, 16, 16)}, r"does not run on an image of shape \(1, 1, 16, 16\): Run"),
        ({"model": mlp()}, "does not run on an image of shape .*: RuntimeError: mat1 and mat2"),
        ({"model": ResNet().to("meta")}, "on the meta device"),
        ({"num_classes": 11}, "num_classes: 11, but the model returns 10 per image"),
        ({"num_classes": 0}, "num_classes must be at least 1, got 0"),
        ({"minibatch": 1}, "minibatch must be at least 2, got 1"),
        ({"repeats": 0}, "repeats must be at least 1, got 0"),
        ({"device": "cuda:99"}, "device: 'cuda:99' is not available here"),
        ({"proxies": ["meco:hooks=rule"]}, "meco.hooks: "),
    ],
)
def test_a_mistake_is_one_message(arguments: dict[str, object], message: str) -> None:
    given: dict[str, object] = {"model": resnet(), "input_shape": SHAPE, "proxies": ["grad_norm"]}
    with pytest.raises(NasError, match=message):
        nas.score(**{**given, **arguments})  # type: ignore[arg-type]


def test_an_unknown_proxy_is_told_with_the_nearest_name() -> None:
    with pytest.raises(UnknownName, match="Did you mean 'grad_norm'"):
        nas.score(resnet(), SHAPE, "gradnorm")


def test_keys_are_what_the_user_wrote() -> None:
    conv = ProxySpec.make("meco", {"hooks": "conv"})
    names: list[str | ProxySpec] = ["meco:hooks=relu", "meco", conv, "meco"]
    scores = nas.score(resnet(), SHAPE, names)
    assert list(scores) == ["meco:hooks=relu", "meco", "meco:hooks=conv"]
    assert scores["meco:hooks=relu"] == scores["meco"] != scores["meco:hooks=conv"]
    assert nas.score(resnet(), SHAPE, []) == {}


def test_what_is_no_logits_fails_only_where_logits_are_needed() -> None:
    names = ["nwot", "swap", "grad_norm", "synflow", "dextr"]
    plain = nas.score(resnet(), SHAPE, names, minibatch=8)
    scores = nas.score(Returns(lambda x: (x, x)), SHAPE, names, minibatch=8)
    # also that a pass which breaks in the end has not been heard twice
    assert scores["nwot"] == pytest.approx(plain["nwot"])
    assert scores["swap"] == plain["swap"]
    for name in names[2:]:
        assert str(scores[name]) == f"{name}: the network returns tuple, not a tensor of logits"
    flat = nas.score(Returns(lambda x: x[..., None]), SHAPE, names, minibatch=8)
    assert flat["grad_norm"] == pytest.approx(plain["grad_norm"])
    assert flat["dextr"] == pytest.approx(plain["dextr"])


def test_batch_norm_over_single_numbers_refuses_a_single_image() -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Flatten(), nn.Linear(8, 10),
    )  # fmt: skip
    scores = nas.score(net, SHAPE, ["meco", "ntk", "grad_norm", "nwot"], minibatch=8)
    assert "Expected more than 1 value per channel" in str(scores["meco"])
    assert isinstance(scores["ntk"], ProxyError)
    assert isinstance(scores["grad_norm"], float)
    assert isinstance(scores["nwot"], float)


def test_weights_that_torch_computes_are_weights() -> None:
    net = seeded(without_norm)
    assert isinstance(net, nn.Sequential)
    names = ["grad_norm", "snip", "nwot", "synflow", "l2_norm"]
    plain = score(net, names)
    normed = copy.deepcopy(net)
    for module in normed.modules():
        if isinstance(module, nn.Conv2d):
            nn.utils.parametrizations.weight_norm(module)
    assert score(normed, names) == pytest.approx(plain, rel=1e-5)
    assert score(normed, ["params"])["params"] == score(net, ["params"])["params"] + 2 * 8
    assert nn.utils.parametrize.is_parametrized(normed[0])
    normed(torch.zeros(1, *SHAPE)).sum().backward()
    spectral = copy.deepcopy(net)
    nn.utils.spectral_norm(spectral[0])  # by a hook of torch's, which stays
    assert score(spectral, ["nwot"]) != score(net, ["nwot"])


def test_a_model_that_cannot_be_copied_is_told() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten())
    net.register_forward_hook(lambda *_: None)
    net.cache = torch.zeros(1, requires_grad=True) * 2
    with pytest.raises(NasError, match="model: it cannot be copied"):
        nas.score(net, SHAPE, "meco")


def test_hooks_are_not_copied_with_what_they_hold() -> None:
    class Owner:
        def __deepcopy__(self, memo: object) -> "Owner":
            raise AssertionError("a hook's owner is not ours to copy")

        def hear(self, *_: object) -> None:
            raise AssertionError("a hook of the user's fired")

    net = resnet()
    net.register_forward_hook(Owner().hear)
    assert score(net, ["meco", "grad_norm"])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu_as_on_the_cpu() -> None:
    names = [*FORWARD, *BACKWARD, "params", "flops"]
    cpu = score(resnet(), names)
    torch.rand(3, device="cuda")
    before = torch.cuda.get_rng_state_all()
    moved = score(resnet(dropout=0.5), names, device="cuda")
    assert score(resnet(), names, device="cuda") == pytest.approx(cpu, rel=1e-3)
    assert score(resnet().cuda(), names) == pytest.approx(cpu, rel=1e-3)
    assert score(resnet().cuda(), names, device="cpu") == pytest.approx(cpu, rel=1e-6)
    assert score(resnet(dropout=0.5), names, device="cuda") == pytest.approx(moved, rel=1e-3)
    score(resnet(dropout=0.5), names)  # on the CPU, which must not seed the GPU either
    after = torch.cuda.get_rng_state_all()
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))

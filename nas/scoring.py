"""Scores of a network of the user's own: any ``nn.Module``, wherever it is.

    score(model, (3, 32, 32), ["meco", "nwot"]) -> {"meco": 12.9, "nwot": 1502.3}

Weights are used as they came, trained or not, in the model's own number format; only proxies whose
definition draws weights or makes them positive (zen, synflow) change them. Batch-norms are in train
mode but where a definition says otherwise; dropout and whatever else the network draws is seeded.
Everything runs on copies: the caller's model, its mode, gradients, buffers and hooks, and all
global random states are as before afterwards.

Letters: C channels, H W size.
"""

from __future__ import annotations

import copy
import dataclasses
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from nas.environment import check_device
from nas.networks.images import Images, LoadedImages, SeededImages, take
from nas.networks.module import ModuleNetwork
from nas.proxies.base import Conditions, Outcome, ProxyError, ProxySpec, outcome
from nas.proxies.routes import ask_repeatedly
from nas.seeds import seeded_globals, torch_generator
from spaces.errors import NasError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nas.networks.events import Event, Listener
    from nas.proxies.routes import Networks

#: What a forward of somebody else's may raise; all of it is told as one message.
_BROKEN = (
    *(RuntimeError, ValueError, ArithmeticError, LookupError, TypeError, AttributeError),
    AssertionError,
)

#: Where a module keeps its hooks.
_HOOKS = tuple(name for name in vars(nn.Module()) if "hooks" in name)


def score(
    model: nn.Module,
    input_shape: Sequence[int],
    proxies: str | ProxySpec | Sequence[str | ProxySpec],
    loader: Iterable[object] | None = None,
    num_classes: int | None = None,
    *,
    minibatch: int = 64,
    repeats: int = 1,
    seed: int = 0,
    device: str | torch.device | None = None,
) -> dict[str, float | ProxyError]:
    """Return the score of one network by each proxy, or why there is none.

    Args:
        model: It maps images ``(N, C, H, W)`` to logits ``(N, classes)``; more dimensions are
            flattened. It is left as it was.
        input_shape: ``(C, H, W)``.
        proxies: Names, with options if need be (``"meco:hooks=conv"``); the keys of the result.
        loader: A ``torch.utils.data.DataLoader``, or any iterable of batches: ``(images, labels)``,
            a dictionary with ``images`` and ``labels``, images alone. By default the images are
            standard normal noise and the labels random.
        num_classes: Random labels are below this number; by default the number of logits.
        minibatch: Images at a time, for proxies that read more than one.
        repeats: Scores are the mean over this many draws of noise, labels, dropout; of a loader,
            each repeat starts ``minibatch`` images after the one before.
        seed: Of all draws.
        device: Where to compute; by default where the model is.

    Raises:
        NasError: An argument that cannot be, a model that does not run on such images, a loader
            that ends too early. What a single proxy cannot do is its ``ProxyError`` in the result.
    """
    specs = _specs(proxies)
    shape = _checked_shape(input_shape)
    if not isinstance(model, nn.Module):
        raise NasError(f"model: expected a torch.nn.Module, got {_kind(model)}")
    if device is not None:
        check_device(str(device))
    where = str(device or device_of(model))
    # Whatever grad mode the caller is in; and the generators belong to the caller.
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        seeded_globals(seed, "score", device=where),
    ):
        net = _private(model)
        if device is not None:
            net = net.to(device)
        dtype = _dtype_of(net)
        rng = torch_generator(seed, "trial")
        image = torch.randn((1, *shape), generator=rng).to(where, getattr(torch, dtype))
        logits = _logits_per_image(net, image)
        classes = logits if num_classes is None else num_classes
        if classes is not None and logits is not None and classes > logits:
            raise NasError(f"num_classes: {classes}, but the model returns {logits} per image")
        conditions = Conditions(
            num_classes=1 if classes is None else classes,  # resolution: that of the images
            seed=seed,
            repeats=repeats,
            minibatch=minibatch,
            dtype=dtype,
            device=where,
        )
        images = _inputs(loader, list(specs.values()), shape, classes, conditions)
        return dict(zip(specs, _judge(net, list(specs.values()), conditions, images), strict=True))


def _specs(proxies: str | ProxySpec | Sequence[str | ProxySpec]) -> dict[str, ProxySpec]:
    """Return the proxies by what the user calls them."""
    named = [proxies] if isinstance(proxies, str | ProxySpec) else proxies
    return {str(x): x if isinstance(x, ProxySpec) else ProxySpec.parse(x) for x in named}


def _checked_shape(shape: Sequence[int]) -> tuple[int, int, int]:
    sizes = tuple(shape) if isinstance(shape, Iterable) else ()
    whole = all(isinstance(x, int) and not isinstance(x, bool) and x > 0 for x in sizes)
    if len(sizes) != 3 or not whole:
        raise NasError(f"input_shape: expected (C, H, W), such as (3, 32, 32), got {shape!r}")
    return sizes[0], sizes[1], sizes[2]


def _kind(value: object) -> str:
    name = getattr(value, "__name__", type(value).__name__)
    return f"the class {name}; call it" if isinstance(value, type) else type(value).__name__


def device_of(model: nn.Module) -> str:
    """Return where a model is: the device of its first parameter, as torch writes it."""
    tensors = [*model.parameters(), *model.buffers()]
    device = str(tensors[0].device) if tensors else "cpu"
    if device == "meta":
        raise NasError("model: it is on the meta device, which holds no numbers")
    return device


def _dtype_of(net: nn.Module) -> Literal["float32", "float64"]:
    found = next((x.dtype for x in net.parameters() if x.is_floating_point()), torch.float32)
    if found not in (torch.float32, torch.float64):
        name = str(found).removeprefix("torch.")
        raise NasError(f"model: its weights are {name}; expected float32 or float64")
    return "float64" if found == torch.float64 else "float32"


def _private(model: nn.Module) -> nn.Module:
    """Return a copy without the user's hooks; those by which torch computes weights stay."""
    model = cast("nn.Module", getattr(model, "_orig_mod", model))  # what torch.compile wraps
    memo: dict[int, Any] = {}
    for module in model.modules():
        for name in _HOOKS:
            hooks: dict[int, object] = getattr(module, name, {})
            kept = {k: h for k, h in hooks.items() if type(h).__module__.startswith("torch.nn.")}
            memo[id(hooks)] = OrderedDict(copy.deepcopy(kept))
    try:
        return copy.deepcopy(model, memo)
    except (RuntimeError, TypeError) as error:
        raise NasError(f"model: it cannot be copied: {error}") from error


def _settled(net: nn.Module) -> nn.Module:
    """Put plain weights where ``torch.nn.utils.parametrize`` computes them."""
    net.eval()  # spectral norm iterates in train mode
    for module in list(net.modules()):
        if parametrize.is_parametrized(module):
            names = list(cast("nn.ModuleDict", module.parametrizations))
            values = {name: getattr(module, name).detach().clone() for name in names}
            # Not parametrize.remove_parametrizations: the class is that of the user's module too.
            module.__class__ = parametrize.type_before_parametrizations(module)
            del module.parametrizations
            for name, value in values.items():
                setattr(module, name, nn.Parameter(value))
    return net


def _logits_per_image(net: nn.Module, image: Tensor) -> int | None:
    """Run once; return how many numbers come out, None if it is no tensor."""
    try:
        with torch.no_grad():
            output = copy.deepcopy(net).eval()(image)
    except _BROKEN as error:
        shape = tuple(image.shape)
        raise NasError(
            f"model: it does not run on an image of shape {shape}: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(output, Tensor):
        return None
    return output.flatten(1).shape[1] if output.dim() > 1 else 1


def _inputs(
    loader: Iterable[object] | None,
    specs: Sequence[ProxySpec],
    shape: tuple[int, int, int],
    classes: int | None,
    conditions: Conditions,
) -> Callable[[int], Images]:
    """Return what gives the images of a repeat; a loader is read here and now."""
    settings: dict[str, Any] = {"seed": conditions.seed, "shape": shape, "classes": classes}
    settings["count"] = conditions.minibatch
    if loader is not None and not isinstance(loader, Iterable):
        raise NasError(f"loader: expected an iterable of batches, got {_kind(loader)}")
    needed = max((_images_read(spec, conditions.minibatch) for spec in specs), default=0)
    if loader is None or not needed:
        return lambda repeat: SeededImages(repeat=repeat, **settings)
    needed += (conditions.repeats - 1) * conditions.minibatch
    with _generator_kept(loader):
        images, labels = take(loader, needed)
    if tuple(images.shape[1:]) != shape:
        raise NasError(
            f"loader: its images are {tuple(images.shape[1:])}, but input_shape is {shape}"
        )
    if len(images) < needed:
        raise NasError(
            f"loader: it ends after {len(images)} images, but {needed} are needed; give more, or "
            f"take a minibatch below {conditions.minibatch}"
        )

    def loaded(repeat: int) -> Images:
        rest = slice(repeat * conditions.minibatch, None)
        taken = images[rest], None if labels is None else labels[rest]
        return LoadedImages(repeat=repeat, taken=taken, **settings)

    return loaded


def _images_read(spec: ProxySpec, minibatch: int) -> int:
    """Return how many images of a loader one repeat of a proxy takes."""
    proxy = spec.proxy
    if proxy.population is not None:
        return 0
    if proxy.listener is not None:
        return {"image": 1, "minibatch": minibatch, "own": 0}[proxy.sees]
    if proxy.images_read is not None:
        return minibatch if proxy.images_read > 1 else proxy.images_read
    return minibatch * int(getattr(spec.options, "minibatches", 1))


@contextmanager
def _generator_kept(loader: object) -> Iterator[None]:
    """Give a DataLoader's own generator its state back."""
    generator = getattr(loader, "generator", None)
    if not isinstance(generator, torch.Generator):
        yield
        return
    state = generator.get_state()
    try:
        yield
    finally:
        generator.set_state(state)


class _Attentive:
    """A listener that knows whether there was anything for it to hear."""

    def __init__(self, listener: Listener, unheard: Callable[[], None]) -> None:
        self.roles = listener.roles
        self.totals = listener.totals
        self._listener = listener
        self._unheard = unheard
        self._asked = False

    def wants(self, channels: int, positions: int) -> bool:
        wanted = self._listener.wants(channels, positions)
        self._asked |= wanted or positions > 1  # a map that it need not hear counts, a vector not
        return wanted

    def hear(self, event: Event) -> None:
        self._listener.hear(event)

    def scores(self) -> Tensor:
        if not self._asked:
            self._unheard()
        return self._listener.scores()


def _judge(
    net: nn.Module,
    specs: Sequence[ProxySpec],
    conditions: Conditions,
    images: Callable[[int], Images],
) -> list[Outcome]:
    """Return one answer per proxy."""
    answers: dict[int, Outcome] = {}
    asked: dict[int, ProxySpec] = {}
    for i, spec in enumerate(specs):
        if spec.members:
            names = ", ".join(str(member) for member, _ in spec.members)
            answers[i] = ProxyError(
                f"{spec.name}: it places scores among those of a space, where a network alone has "
                f"none; ask for its members: {names}"
            )
        elif spec.proxy.population is not None:
            answers[i] = _of_module(net, spec, conditions, images)
        else:
            asked[i] = _attentive(spec, partial(answers.__setitem__, i, _unheard(spec)))
    plain = _settled(copy.deepcopy(net))
    heard = ask_repeatedly(
        lambda now: ModuleNetwork(copy.deepcopy(plain), now.seed, seeded=False),
        list(asked.values()),
        conditions,
        images,
    )
    for i, answer in zip(asked, heard, strict=True):
        answers.setdefault(i, answer)
    return [answers[i] for i in range(len(specs))]


def _of_module(
    net: nn.Module,
    spec: ProxySpec,
    conditions: Conditions,
    images: Callable[[int], Images],
) -> Outcome:
    """Ask a data-free proxy."""
    if spec.proxy.module is None:
        return ProxyError(f"{spec}: it is defined for architectures of a space, not for a network")
    dtype = getattr(torch, conditions.dtype)
    noise = images(0).noise(1).to(conditions.device, dtype)
    try:
        return outcome(spec, spec.proxy.module(copy.deepcopy(net), noise))
    except _BROKEN as error:
        return ProxyError(f"{spec}: {type(error).__name__}: {error}")


def _attentive(spec: ProxySpec, unheard: Callable[[], None]) -> ProxySpec:
    make = spec.proxy.listener
    if make is None:
        return spec

    def listener(networks: Networks, conditions: Conditions, options: object) -> Listener:
        return _Attentive(make(networks, conditions, options), unheard)

    return dataclasses.replace(spec, proxy=dataclasses.replace(spec.proxy, listener=listener))


def _unheard(spec: ProxySpec) -> ProxyError:
    if spec.proxy.listener is None:
        return ProxyError(f"{spec}: nothing to hear")
    return ProxyError(f"{spec}: the network has no map of the kind that it reads")

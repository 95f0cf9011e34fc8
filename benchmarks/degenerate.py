"""Every proxy on input that has little to say: ``python benchmarks/degenerate.py --json FILE``.

Networks without a path from input to output, constant images, one channel, maps of one pixel,
weights that are huge, tiny, zero or NaN, half precision, one class or none. Each is answered by a
finite score or by a reason; anything else (NaN, an error of torch) is a fault, and ends the script
with 1.
Nothing is timed, so the machine does not matter but for the last bits.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

import nas
from nas.environment import environment
from nas.proxies import PROXIES, Conditions, ProxyError, ProxySpec, score_batch
from nas.seeds import seeded_torch
from spaces import SPACES, Arch, NasError, Space

#: Cheaper than by default: passes of dextr, architectures in the sample of an ensemble.
OPTIONS = {
    "dextr": "dextr:points=2",
    "zero_shot": "zero_shot:reference=8",
    "ensemble": "ensemble:reference=8",
}
SPECS = {name: OPTIONS.get(name, name) for name in PROXIES}
SMALL = Conditions(num_classes=4, resolution=8, minibatch=4)

#: Official strings of members without a path, or with as little as the space allows; a space that
#: is not named here gives the members of fewest parameters and FLOPs of those drawn.
WORST: Mapping[str, tuple[str, ...]] = {
    "nats_tss": (
        "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|",
        "|nor_conv_3x3~0|+|nor_conv_3x3~0|none~1|+|none~0|none~1|none~2|",  # nothing arrives
        "|avg_pool_3x3~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|",
    ),
    "transnas_micro": ("64-41414-0_00_000", "64-41414-3_30_000", "64-41414-0_00_100"),
}

#: What came: a score, or why there is none. The text of a fault begins with FAULT.
Answer = float | str
FAULT = "FAULT"


@dataclass(frozen=True)
class Case:
    """One kind of degenerate input.

    Attributes:
        name: For a person.
        ask: From a proxy as a person writes it to its answers.
        slow: Takes seconds.
    """

    name: str
    ask: Callable[[str], list[Answer]]
    slow: bool = False


def worst_members(space: Space) -> list[Arch]:
    """Return the members of a space that have the least to say."""
    if space.name in WORST:
        return [space.from_str(text) for text in WORST[space.name]]
    rng = np.random.default_rng(0)
    drawn = space.sample_many(200, rng)
    costs = space.costs(drawn)
    chosen = {int(np.argmin(costs.params)), int(np.argmin(costs.flops))}
    return [tuple(drawn[place].tolist()) for place in sorted(chosen)]


def answers(ask: Callable[[], list[Any]]) -> list[Answer]:
    """Return scores and reasons; a fault is told as one."""
    try:
        found = ask()
    except NasError as error:
        return [" ".join(str(error).split())]
    except Exception as error:  # noqa: BLE001 - that is what is looked for
        return [f"{FAULT}: {type(error).__name__}: {' '.join(str(error).split())[:200]}"]
    made: list[Answer] = []
    for one in found:
        if isinstance(one, ProxyError):
            made.append(" ".join(str(one).split()))
        elif isinstance(one, float) and math.isfinite(one):
            made.append(one)
        else:
            made.append(f"{FAULT}: {one!r}")
    return made


def of_cells(space: Space, archs: list[Arch], **changed: Any) -> Callable[[str], list[Answer]]:  # noqa: ANN401
    """Return what asks a proxy about members of a space."""

    def ask(proxy: str) -> list[Answer]:
        def scored() -> list[Any]:
            conditions = replace(SMALL, **changed)
            return list(score_batch(space, [ProxySpec.parse(proxy)], archs, conditions)[0])

        return answers(scored)

    return ask


def of_module(
    make: Callable[[], nn.Module],
    shape: tuple[int, int, int],
    **settings: Any,  # noqa: ANN401
) -> Callable[[str], list[Answer]]:
    """Return what asks a proxy about a network."""

    def ask(proxy: str) -> list[Answer]:
        def scored() -> list[Any]:
            with seeded_torch(0, "degenerate"):
                net = make()
            return list(nas.score(net, shape, [proxy], minibatch=4, **settings).values())

        return answers(scored)

    return ask


def network(channels: int = 3, classes: int = 4, stride: int = 1) -> nn.Module:
    """Return a small network."""
    return nn.Sequential(
        nn.Conv2d(channels, 8, 3, padding=1, stride=stride), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, classes),
    )  # fmt: skip


class NoLogits(nn.Module):
    """Returns no number per image."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, :0]


def scaled(factor: float) -> nn.Module:
    """Return the same with weights of another size."""
    net = network()
    with torch.no_grad():
        for weight in net.parameters():
            weight.mul_(factor)
    return net


def cast(dtype: torch.dtype) -> nn.Module:
    """Return the same in another number format."""
    return network().to(dtype)


def bare() -> nn.Module:
    """Return a network of one layer, without a map, a ReLU or a normalisation."""
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 4))


def dead() -> nn.Module:
    """Return a network whose ReLUs let nothing through."""
    net = network()
    with torch.no_grad():
        for layer in net.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.bias.fill_(-1e3)
    return net


def constant_loader() -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return a batch of equal images of one class."""
    return [(torch.full((64, 3, 8, 8), 0.5), torch.zeros(64, dtype=torch.int64))]


def images(folder: Path) -> Iterator[Case]:
    """Yield a case for each file of images."""
    rng = np.random.default_rng(0)
    one = rng.integers(0, 256, (1, 8, 8, 3), dtype=np.uint8)
    kinds: dict[str, NDArray[Any]] = {
        "black images": np.zeros((24, 8, 8, 3), np.uint8),
        "grey images": np.full((24, 8, 8, 3), 127, np.uint8),
        "equal images": np.repeat(one, 24, axis=0),
        "huge images": np.full((24, 3, 8, 8), 1e30, np.float32),
        "images of one channel": rng.integers(0, 256, (24, 8, 8, 1), dtype=np.uint8),
        "images of NaN": np.full((24, 3, 8, 8), np.nan, np.float32),
        "images of one pixel": rng.integers(0, 256, (24, 1, 1, 3), dtype=np.uint8),
    }
    space = SPACES["nats_tss"]
    archs = [space.at(0), space.at(len(space) - 1)]
    for name, content in kinds.items():
        path = folder / f"{name}.npz"
        np.savez(path, images=content, labels=np.arange(24) % 4)
        yield Case(name, of_cells(space, archs, images=str(path)))
    path = folder / "one class.npz"
    np.savez(path, images=kinds["equal images"], labels=np.zeros(24, np.int64))
    yield Case("equal images of one class", of_cells(space, archs, images=str(path)))


def cases(folder: Path, spaces: Mapping[str, Space] = SPACES) -> Iterator[Case]:
    """Yield every case; files of images go into a folder."""
    for space in spaces.values():
        slow = space.name in ("nasbench101", "darts", "transnas_macro")
        yield Case(f"{space.name}: no path", of_cells(space, worst_members(space)), slow)
    tss = SPACES["nats_tss"]
    some = [tss.at(0), tss.at(len(tss) - 1)]
    for size in (1, 2, 4, 8):
        yield Case(f"resolution {size}", of_cells(tss, some, resolution=size))
    for count in (0, 1):
        yield Case(f"{count} classes", of_cells(tss, some, num_classes=count))
    yield Case("minibatch of 2", of_cells(tss, some, minibatch=2))
    yield from images(folder)
    small = (3, 8, 8)
    for factor in (1e4, 1e-6, 1e30, 1e-30, 0.0, math.nan):
        yield Case(f"weights x {factor:g}", of_module(functools.partial(scaled, factor), small))
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        name = str(dtype).removeprefix("torch.")
        yield Case(f"a {name} network", of_module(functools.partial(cast, dtype), small))
    yield Case("a network of one channel", of_module(lambda: network(1), (1, 8, 8)))
    yield Case("a network for 1x1 images", of_module(network, (3, 1, 1)))
    yield Case("a network with maps of 1x1", of_module(lambda: network(stride=8), small))
    yield Case("a network of 1 class", of_module(lambda: network(classes=1), small))
    yield Case(
        "a network of 0 classes", of_module(lambda: nn.Sequential(network(), NoLogits()), small)
    )
    yield Case("a network of one layer", of_module(bare, small))
    yield Case("a network without weights", of_module(nn.Flatten, small))
    yield Case("a network that lets nothing through", of_module(dead, small))
    yield Case("equal images by a loader", of_module(network, small, loader=constant_loader()))


def main() -> None:
    """Ask everything, count, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows, faults = [], 0
    with tempfile.TemporaryDirectory() as folder:
        for case in cases(Path(folder)):
            found = {name: case.ask(spec) for name, spec in SPECS.items()}
            wrong = {
                name: one
                for name, answers in found.items()
                for one in answers
                if isinstance(one, str) and one.startswith(FAULT)
            }
            faults += len(wrong)
            rows.append({"case": case.name, "answers": found})
            whole = sum(all(isinstance(one, float) for one in row) for row in found.values())
            none = sum(all(isinstance(one, str) for one in row) for row in found.values())
            sys.stdout.write(
                f"{case.name}: {whole} proxies score all, {len(found) - whole - none} some, "
                f"{none} none, {len(wrong)} faults\n"
            )
            for name, text in wrong.items():
                sys.stdout.write(f"    {name}: {text}\n")
            sys.stdout.flush()
    if options.json is not None:
        result = {"rows": rows, "environment": environment(seed=0)}
        text = json.dumps(result, indent=1) + "\n"
        options.json.write_text(text.replace(f"{folder}/", ""))  # where the images were
    sys.exit(faults > 0)


if __name__ == "__main__":
    main()

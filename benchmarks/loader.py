"""What loading and augmenting costs beside a training step: ``python benchmarks/loader.py``.

The network is a small one of NATS-Bench's topology space, of the benchmark's own width and depth;
batches are 256 images of 32x32, cropped and flipped. Both are timed in turn, so that what else the
machine does meets both: the loader alone over an epoch of 20 batches, and steps of SGD alone on a
batch that is there already. The share is the one over the other.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from nas.environment import environment
from nas.training.augment import Augment
from nas.training.images import Labelled
from nas.training.loader import Loader
from spaces import SPACES

CELL = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|"  # noqa: E501
BATCH, N_BATCHES = 256, 20
CIFAR_MEAN, CIFAR_STD = (0.4914, 0.4824, 0.4467), (0.2471, 0.2435, 0.2616)


def seconds(work: Callable[[], None], device: str) -> float:
    """Return how long something takes, to the end of what it started on the device."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    began = time.perf_counter()
    work()
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


def images(device: str) -> Labelled:
    """Return random images for an epoch."""
    rng = np.random.default_rng(0)
    n = BATCH * N_BATCHES
    pixels = rng.integers(0, 256, (n, 3, 32, 32), dtype=np.uint8)
    labels = rng.integers(0, 10, n)
    return Labelled(torch.from_numpy(pixels), torch.from_numpy(labels)).to(device)


def training(net: nn.Module, batch: tuple[Tensor, Tensor], steps: int, dtype: str) -> None:
    """Take some steps of SGD on one batch."""
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    loss_of = nn.CrossEntropyLoss()
    pixels, labels = batch
    for _ in range(steps):
        optimizer.zero_grad()
        with torch.autocast(pixels.device.type, torch.bfloat16, enabled=dtype == "bfloat16"):
            loss = loss_of(net(pixels), labels)
        loss.backward()
        optimizer.step()


def main() -> None:
    """Measure, print, and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--repeats", type=int, default=5, help="Pairs of measurements.")
    parser.add_argument("--steps", type=int, default=2, help="Steps of training in each.")
    parser.add_argument("--threads", type=int, help="Of torch, on the CPU.")
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results" / "loader.json"
    )
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    augment = Augment(CIFAR_MEAN, CIFAR_STD, crop=4, flip=True, channels_last=args.channels_last)
    loader = Loader(images(args.device), BATCH, augment, seed=0, device=args.device)
    space = SPACES["nats_tss"]
    net = space.build(space.from_str(CELL), num_classes=10).to(args.device).train()
    if args.channels_last:
        net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    batch = next(loader.epoch(0))
    training(net, batch, 1, args.dtype)  # warm-up
    for _ in loader.epoch(0):
        pass
    shares, loads, steps = [], [], []
    for repeat in range(args.repeats):

        def epoch(number: int = repeat) -> None:
            for _ in loader.epoch(number):
                pass

        load = seconds(epoch, args.device) / N_BATCHES
        step = seconds(lambda: training(net, batch, args.steps, args.dtype), args.device)
        loads.append(load)
        steps.append(step / args.steps)
        shares.append(100 * load / steps[-1])
    result = {
        "n": args.repeats,
        "batch": BATCH,
        "dtype": args.dtype,
        "channels_last": args.channels_last,
        "loader_ms": {"median": 1e3 * statistics.median(loads), "all": [1e3 * t for t in loads]},
        "step_ms": {"median": 1e3 * statistics.median(steps), "all": [1e3 * t for t in steps]},
        "share_percent": {
            "median": statistics.median(shares), "low": min(shares), "high": max(shares),
        },
        "environment": environment(device=args.device, seed=0),
    }  # fmt: skip
    args.out.write_text(json.dumps(result, indent=2) + "\n")
    where = result["environment"]
    print(  # noqa: T201
        f"loader {1e3 * statistics.median(loads):.2f} ms of a step of "
        f"{1e3 * statistics.median(steps):,.1f} ms: {statistics.median(shares):.3f} % "
        f"({min(shares):.3f} to {max(shares):.3f}, n = {args.repeats}); batch {BATCH}, "
        f"{args.dtype}, {where['device_name']}, {torch.get_num_threads()} threads, "
        f"torch {torch.__version__}"
    )


if __name__ == "__main__":
    main()

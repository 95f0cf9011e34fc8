"""Our training against the table's: ``python benchmarks/reproduce.py DATA [--limit 300]``.

DATA holds nats_tss.csv.gz, cifar10_jpeg_blobs.npz and cifar10_lossless_subset.npz.

``cells``
    Cells of the topology space, evenly spread over the 12-epoch test accuracy of CIFAR-10 (one of
    each quantile, live ones), trained by ``train_nats_12``; trained accuracy beside the tabulated
    one, and Kendall. ``--limit N`` takes N images of each class in place of all 5,000, for a
    machine without a GPU: accuracies are then lower, and only their order can be compared.
``jpeg``
    What JPEG costs: the same cell trained on the images that are known exactly, as they are and as
    JPEG made them; either is tested on exact and on JPEG test images (``others``: in the other
    form than it was trained on).
``fast``
    ``train_fast`` beside ``train_nats_12`` on the same images and device: accuracy and seconds.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nas.benchmark import read_table
from nas.environment import environment
from nas.jobs import Training, train
from nas.training.augment import Augment
from nas.training.data import load_data
from spaces import SPACES

HERE = Path(__file__).resolve().parent
COLUMN = "c10_test_12"
MIDDLE = "|nor_conv_1x1~0|+|skip_connect~0|nor_conv_3x3~1|+|skip_connect~0|none~1|nor_conv_1x1~2|"


def cells_of(data: Path, count: int) -> list[str]:
    """Return cells at even quantiles of the tabulated accuracy, those that learn anything."""
    space = SPACES["nats_tss"]
    truth = read_table(data / "nats_tss.csv.gz", space).truth(COLUMN)
    order = np.argsort(truth.values, kind="stable")
    alive = order[truth.values[order] > 15]
    places = np.linspace(0, len(alive) - 1, count).round().astype(int)
    return [space.to_str(truth.archs[row]) for row in alive[places]]


def jpeg_of(data: Path, folder: Path) -> dict[str, Path]:
    """Write the exactly known images, and what JPEG made of them, as files of arrays."""
    from PIL import Image

    with np.load(data / "cifar10_lossless_subset.npz") as known:
        exact = {name: known[name] for name in known.files}
    with np.load(data / "cifar10_jpeg_blobs.npz") as packed:
        blob, offsets = packed["blob"], packed["offsets"]

    def lossy(places: np.ndarray) -> np.ndarray:
        files = [blob[offsets[i] : offsets[i + 1]].tobytes() for i in places]
        return np.stack([np.asarray(Image.open(io.BytesIO(x)).convert("RGB")) for x in files])

    images = {
        ("exact", "train"): exact["x_train"],
        ("exact", "test"): exact["x_test"],
        ("jpeg", "train"): lossy(exact["idx_train"]),
        ("jpeg", "test"): lossy(50_000 + exact["idx_test"]),
    }
    found = {}
    for trained, tested in (("exact", "jpeg"), ("jpeg", "exact")):
        found[trained] = folder / f"{trained}.npz"
        np.savez(
            found[trained],
            x_train=images[trained, "train"],
            y_train=exact["y_train"],
            x_test=images[trained, "test"],
            y_test=exact["y_test"],
            other=images[tested, "test"],  # the same images as the others have them
        )
    return found


def on_others(training: Training, file: Path) -> float:
    """Return the accuracy, per cent, on the test images in their other form."""
    data = load_data("npz", {"file": str(file)})
    with np.load(file) as known:
        images = torch.from_numpy(known["other"]).permute(0, 3, 1, 2)
    network = training.load()
    with torch.no_grad():
        parts = Augment(data.mean, data.std)(images).split(256)
        taken = torch.cat([network(part).argmax(1) for part in parts])
    return float(100 * (taken == data.test.labels).double().mean())


def told(training: Training) -> dict[str, Any]:
    """Return what stands in the result of one training."""
    rows = training.summary["archs"]
    keys = ("arch", "params", "accuracy", "std", "truth", "rank")
    return {
        "cells": [{key: row.get(key) for key in keys} for row in rows],
        "agreement": training.summary["agreement"].get("truth"),
        "seconds": training.summary["seconds"],
        "images": training.summary["data"]["train"],
        "epochs": training.summary["recipe"]["epochs"],
    }


def main() -> None:
    """Train, and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--only", default="cells,jpeg,fast")
    parser.add_argument("--cells", type=int, default=12)
    parser.add_argument("--limit", type=int, default=None, help="images of a class")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch", type=int, default=256, help="smaller where images are few")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--folder", type=Path, default=Path("reproduced"))
    parser.add_argument("--out", type=Path, default=HERE / "results" / "reproduce.json")
    args = parser.parse_args()
    args.folder.mkdir(exist_ok=True)
    table = args.data.resolve() / "nats_tss.csv.gz"
    images: dict[str, Any] = {"name": "npz", "train": 50_000, "limit": args.limit}
    images["file"] = str(args.data.resolve() / "cifar10_jpeg_blobs.npz")
    # The order in memory changes no number but the last bits, and pooling is five times as fast.
    common = {"split": "official", "device": args.device, "seeds": args.seeds}
    common["channels_last"] = True
    result = json.loads(args.out.read_text()) if args.out.exists() else {}

    def run(name: str, what: str | list[str], recipe: str, **settings: Any) -> dict[str, Any]:  # noqa: ANN401
        folder = args.folder / f"{name}-{recipe}"
        return told(train(what, recipe, {**common, **settings}, folder=folder))

    if "cells" in args.only:
        settings = {"data": images, "benchmark": f"{table}:{COLUMN}", "epochs": args.epochs}
        settings["batch"] = args.batch
        result["cells"] = run("cells", cells_of(args.data, args.cells), "train_nats_12", **settings)
    if "jpeg" in args.only:
        result["jpeg"] = {}
        for name, path in jpeg_of(args.data, args.folder).items():
            settings = {"data": {"name": "npz", "file": str(path.resolve())}}
            settings |= {**common, "epochs": args.epochs}
            folder = args.folder / f"jpeg-{name}"
            training = train(MIDDLE, "train_nats_12", settings, folder=folder)
            result["jpeg"][name] = {**told(training), "others": on_others(training, path)}
    if "fast" in args.only:
        result["fast"] = {
            recipe: run("fast", MIDDLE, recipe, data=images)
            for recipe in ("train_nats_12", "train_fast")
        }
    told_of = environment(device=args.device, seed=777)
    words = [word for word in sys.argv[2:] if "/" not in word]  # no path of this machine
    told_of["command"] = ["reproduce.py", "DATA", *words]
    args.out.write_text(json.dumps({**result, "environment": told_of}, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""``nas score``: the scores of given architectures."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from nas.cli.console import (
    Device,
    Dtype,
    Images,
    JsonTarget,
    NumClasses,
    ProxyNames,
    Repeats,
    Resolution,
    SpaceName,
    check_targets,
    conditions_from,
    emit_json,
    emit_table,
    guarded,
    note,
    split_proxies,
)
from nas.wording import number_text


@guarded
def score(
    archs: Annotated[
        list[str],
        typer.Argument(
            metavar="ARCH...", help="Official strings; '-' reads one per line from standard input."
        ),
    ],
    space: SpaceName = "nats_tss",
    proxy: ProxyNames = ["meco"],  # noqa: B006 - typer copies it
    json_: JsonTarget = None,
    num_classes: NumClasses = 10,
    resolution: Resolution = 32,
    repeats: Repeats = 1,
    images: Images = None,
    seed: Annotated[int, typer.Option(help="Of weights and images.")] = 0,
    dtype: Dtype = "float32",
    device: Device = "cpu",
) -> None:
    """Score architectures by one or more proxies.

    An architecture that a proxy cannot score has a dash, and the reason on standard error.
    """
    from nas.environment import environment
    from nas.proxies.base import ProxyError, ProxySpec, score_batch
    from spaces import SPACES, look_up

    check_targets(json_)
    where = look_up(SPACES, space, kind="space")
    specs = [ProxySpec.parse(text) for text in split_proxies(proxy)]
    texts = [line for text in archs for line in (_lines() if text == "-" else [text])]
    conditions = conditions_from(
        num_classes=num_classes, resolution=resolution, repeats=repeats, images=images,
        seed=seed, dtype=dtype, device=device,
    )  # fmt: skip
    scored = score_batch(where, specs, [where.from_str(text) for text in texts], conditions)
    if json_ is not None:
        rows = [
            {
                "arch": text,
                "proxy": str(spec),
                "score": None if isinstance(value, ProxyError) else value,
                "error": str(value) if isinstance(value, ProxyError) else None,
            }
            for spec, values in zip(specs, scored, strict=True)
            for text, value in zip(texts, values, strict=True)
        ]
        emit_json({"rows": rows, "environment": environment(device=device, seed=seed)}, json_)
    if json_ != "-":
        columns = [
            [number_text(None if isinstance(value, ProxyError) else value) for value in values]
            for values in scored
        ]
        emit_table([*map(str, specs), "architecture"], zip(*columns, texts, strict=True))
    for values in scored:
        for text, value in zip(texts, values, strict=True):
            if isinstance(value, ProxyError):
                note(f"{text}: {value}")


def _lines() -> list[str]:
    return [line.strip() for line in sys.stdin if line.strip()]

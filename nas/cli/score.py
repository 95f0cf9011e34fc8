"""``nas score``: the scores of given architectures, or of a network of the user's own."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from nas.cli.console import (
    Device,
    Dtype,
    Images,
    JsonTarget,
    Minibatch,
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
from spaces.errors import NasError

if TYPE_CHECKING:
    from nas.proxies.base import Conditions, Outcome

EXAMPLES = """\b
Examples:
  nas score --proxy meco,sed '|nor_conv_3x3~0|+|none~0|nor_conv_3x3~1|+|skip_connect~0|none~1|nor_conv_3x3~2|'
  nas score --model my_package.nets:make --input-shape 3,32,32 --proxy nwot,synflow
  nas score --model nets:Net --input-shape 1,28,28 --loader nets:train_loader --proxy grad_norm
"""  # noqa: E501

#: Options that have no meaning for the other kind of subject, and what to do instead.
_FOR_ARCHS = {
    "space": "a model lives in none",
    "resolution": "give --input-shape",
    "images": "give --loader",
    "dtype": "a model has its own",
}
_FOR_MODELS = ("input_shape", "loader")


@guarded
def score(
    context: typer.Context,
    archs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="ARCH",
            help="Official strings; '-' reads one per line from standard input.",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="PACKAGE.MODULE:CALLABLE",
            help="Instead of architectures: what returns a torch.nn.Module, such as its class.",
        ),
    ] = None,
    input_shape: Annotated[
        str | None, typer.Option(metavar="C,H,W", help="Of the images of --model.")
    ] = None,
    loader: Annotated[
        str | None,
        typer.Option(
            metavar="PACKAGE.MODULE:CALLABLE",
            help="What returns batches of images and labels for --model, such as a DataLoader; "
            "noise and random labels when left out.",
        ),
    ] = None,
    space: SpaceName = "nats_tss",
    proxy: ProxyNames = ["meco"],  # noqa: B006 - typer copies it
    json_: JsonTarget = None,
    num_classes: NumClasses = 10,
    resolution: Resolution = 32,
    repeats: Repeats = 1,
    images: Images = None,
    minibatch: Minibatch = 64,
    seed: Annotated[int, typer.Option(min=0, help="Of weights, images and labels.")] = 0,
    dtype: Dtype = "float32",
    device: Device = "cpu",
) -> None:
    """Score architectures, or a network of your own, by one or more proxies.

    What a proxy cannot score has a dash, and the reason on standard error. A network of your own is
    built under --seed and scored with the weights that it has then; number of classes, number
    format and device are its own unless they are given.
    """
    check_targets(json_)
    given = {
        name
        for name in context.params
        if getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE"
    }
    _check_subject(archs, model, given)
    names = split_proxies(proxy)
    if model is not None:
        _score_model(
            model,
            input_shape,
            loader,
            names,
            json_,
            num_classes=num_classes if "num_classes" in given else None,
            device=device if "device" in given else None,
            minibatch=minibatch,
            repeats=repeats,
            seed=seed,
        )
        return
    conditions = conditions_from(
        num_classes=num_classes, resolution=resolution, repeats=repeats, images=images,
        minibatch=minibatch, seed=seed, dtype=dtype, device=device,
    )  # fmt: skip
    _score_archs(archs or [], space, names, conditions, json_)


def _check_subject(archs: list[str] | None, model: str | None, given: set[str]) -> None:
    """Refuse both subjects, none, and options that belong to the other."""
    if model is None:
        if not archs:
            raise NasError("nothing to score: give architectures, or --model with --input-shape")
        for name in _FOR_MODELS:
            if name in given:
                raise NasError(f"{_option(name)} is for --model, but architectures are given")
        return
    if archs:
        raise NasError(f"--model and ARCH exclude each other, got {model!r} and {archs[0]!r}")
    if "input_shape" not in given:
        raise NasError("--model needs --input-shape C,H,W, such as 3,32,32")
    for name, instead in _FOR_ARCHS.items():
        if name in given:
            raise NasError(f"{_option(name)} is for architectures, not for --model: {instead}")


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _score_archs(
    archs: list[str], space: str, names: list[str], conditions: Conditions, json_: str | None
) -> None:
    from nas.environment import environment
    from nas.proxies.base import ProxySpec, score_batch
    from nas.space_file import find_space

    where = find_space(space)
    specs = [ProxySpec.parse(text) for text in names]
    texts = [line for text in archs for line in (_lines() if text == "-" else [text])]
    scored = score_batch(where, specs, [where.from_str(text) for text in texts], conditions)
    if json_ is not None:
        rows = [
            {"arch": text, "proxy": str(spec), **_for_json(value)}
            for spec, values in zip(specs, scored, strict=True)
            for text, value in zip(texts, values, strict=True)
        ]
        about = environment(device=conditions.device, seed=conditions.seed)
        emit_json({"rows": rows, "environment": about}, json_)
    if json_ != "-":
        columns = [[_shown(value) for value in values] for values in scored]
        emit_table([*map(str, specs), "architecture"], zip(*columns, texts, strict=True))
    for values in scored:
        for text, value in zip(texts, values, strict=True):
            if not isinstance(value, float):
                note(f"{text}: {value}")


def _score_model(
    model: str,
    input_shape: str | None,
    loader: str | None,
    names: list[str],
    json_: str | None,
    *,
    num_classes: int | None,
    device: str | None,
    minibatch: int,
    repeats: int,
    seed: int,
) -> None:
    from nas.environment import environment
    from nas.own import own_object
    from nas.proxies.base import ProxySpec
    from nas.scoring import device_of, score

    shape = _shape(input_shape or "")
    specs = [ProxySpec.parse(text) for text in names]  # before the user's code runs
    net = own_object(model, "--model", seed)
    batches = None if loader is None else own_object(loader, "--loader", seed)
    scores = score(
        net, shape, specs, batches, num_classes,
        minibatch=minibatch, repeats=repeats, seed=seed, device=device,
    )  # fmt: skip
    if json_ is not None:
        rows = [
            {"model": model, "proxy": name, **_for_json(value)} for name, value in scores.items()
        ]
        about = environment(device=device or device_of(net), seed=seed)
        emit_json({"rows": rows, "environment": about}, json_)
    if json_ != "-":
        emit_table(["score", "proxy"], ((_shown(value), name) for name, value in scores.items()))
    for value in scores.values():
        if not isinstance(value, float):
            note(str(value))


def _for_json(value: Outcome) -> dict[str, float | str | None]:
    if isinstance(value, float):
        return {"score": value, "error": None}
    return {"score": None, "error": str(value)}


def _shown(value: Outcome) -> str:
    return number_text(value if isinstance(value, float) else None)


def _shape(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if len(parts) != 3 or not all(part.strip().isdecimal() for part in parts):
        raise NasError(f"--input-shape: expected C,H,W such as 3,32,32, got {text!r}")
    return tuple(int(part) for part in parts)


def _lines() -> list[str]:
    return [line.strip() for line in sys.stdin if line.strip()]

"""``nas export``: the network that was found, as files that a product can use."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nas.cli.console import JsonTarget, check_targets, emit_json, emit_table, guarded, note
from spaces.errors import NasError

EXAMPLES = """\b
Examples:
  nas export runs/2025-01-31_142500-smoke --format safetensors,python
  nas export runs/2025-01-31_142500-smoke --rank 2 --format torch,onnx --input-size 64 --out second
  nas export runs/2025-01-31_150000-train_digits --format onnx
  nas export 64:64:64:64:64 --space nats_sss --format python --num-classes 100 --out sss
  nas export runs/2025-01-31_142500-smoke --optuna sqlite:///studies.db
"""


@guarded
def export(
    target: Annotated[
        str,
        typer.Argument(
            metavar="RUN|ARCH",
            help="Run folder of a search or of a training, or an official string with --space.",
        ),
    ],
    formats: Annotated[
        list[str] | None,
        typer.Option("--format", help="torch, safetensors, onnx, python; several by commas."),
    ] = None,
    space: Annotated[str | None, typer.Option(help="Of an official string.")] = None,
    rank: Annotated[int, typer.Option(min=1, help="Which place of the run's result.")] = 1,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Where; by default RUN/export (RUN/export-RANK)."),
    ] = None,
    input_size: Annotated[
        int | None,
        typer.Option(help="Height and width of images, pixels; that of the run when left out."),
    ] = None,
    num_classes: Annotated[
        int | None,
        typer.Option(help="Width of the classifier, 0 for none; that of the run when left out."),
    ] = None,
    in_chans: Annotated[int, typer.Option(help="Channels of images.")] = 3,
    seed: Annotated[int, typer.Option(min=0, help="Of weights that no training made.")] = 0,
    untrained: Annotated[
        bool, typer.Option("--untrained", help="Leave the weights of a training aside.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files.")] = False,
    optuna: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Write the whole search as a study, sqlite:///FILE.db."),
    ] = None,
    json_: JsonTarget = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Nothing on standard error but errors.")
    ] = False,
) -> None:
    """Write the network that was found, in one or more formats, each checked against it.

    Weights are those of a training where the run has one, else a fresh initialisation. A file is in
    its place only after it gave the network's logits on random images.
    """
    check_targets(json_)
    if optuna is not None:
        _study(target, optuna, quiet=quiet)
        if not formats:
            return
    folder = _folder(target, rank, out)
    from nas.export.chosen import choose  # late: it loads torch
    from nas.export.formats import check_free, formats_named, make
    from nas.export.formats import export as write

    asked = formats_named(formats or [])
    chosen = choose(target, space=space, rank=rank)
    check_free(asked, folder, force=force)
    model = make(
        chosen, num_classes=num_classes, in_chans=in_chans, resolution=input_size, seed=seed,
        untrained=untrained,
    )  # fmt: skip
    if not quiet:
        shape = f"{model.in_chans}x{model.resolution}x{model.resolution}"
        note(chosen.arch)
        note(f"{model.costs}, {model.num_classes} classes, images of {shape}")
        note(chosen.origin)
        if model.left_out:
            note(model.left_out_text)
        note(f"weights: {model.weights}")
    written = write(model, asked, folder, force=force)
    if json_ is not None:
        about = {
            "arch": chosen.arch,
            "space": chosen.place,
            "params": model.params,
            "macs": model.macs,
            "num_classes": model.num_classes,
            "in_chans": model.in_chans,
            "input_size": model.resolution,
            "weights": model.weights,
            "left_out": list(model.left_out),
        }
        files = [{"format": x.format, "path": str(x.path), "check": x.check} for x in written]
        emit_json({**about, "files": files}, json_)
    if json_ != "-":
        rows = [(_size(each.path), each.check, str(each.path)) for each in written]
        emit_table(
            ["size", "logits of random images, off by a share of their spread", "file"], rows
        )


def _study(target: str, url: str, *, quiet: bool) -> None:
    from nas.optuna_study import to_optuna

    study = to_optuna(target, url)
    if not quiet:
        note(f"{url}: study {study.study_name}, {len(study.trials):,} trials")


def _folder(target: str, rank: int, out: Path | None) -> Path:
    if out is not None:
        return out
    try:
        if Path(target).is_dir():
            return Path(target) / ("export" if rank == 1 else f"export-{rank}")
    except OSError:
        pass  # a text that is no path at all
    raise NasError("--out: name a folder, for an architecture has none of its own")


def _size(path: Path) -> str:
    size = path.stat().st_size
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"

"""``nas fit``: a predictor from a recipe; ``nas predict``: what it says of architectures.

``nas suggest``: which architectures to train for the next one.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas.cli.console import (
    ExecutorName,
    JsonTarget,
    WorkerCount,
    check_targets,
    emit_json,
    emit_table,
    guarded,
    note,
)
from nas.cli.progress import CountProgress
from nas.wording import duration
from spaces.errors import NasError

if TYPE_CHECKING:
    from nas.predictor.predictor import Predictor
    from nas.recipe.fit import FitRecipe
    from nas.store import Store

FIT_EXAMPLES = """\b
Examples:
  nas fit tss_accuracy truth=nats_tss.csv.gz:c10_test_200
  nas fit my_fit.yaml train=256 seed=1 --out small.npz
  nas fit tss_accuracy truth=mine.csv:accuracy train=all
"""
SUGGEST_EXAMPLES = """\b
Examples:
  nas suggest tss_accuracy --number 16
  nas suggest tss_accuracy truth=mine.csv:accuracy --number 16
  nas suggest tss_accuracy truth=mine.csv:accuracy --number 8 --by best
"""
PREDICT_EXAMPLES = """\b
Examples:
  nas predict tss.npz '|nor_conv_3x3~0|+|none~0|nor_conv_3x3~1|+|skip_connect~0|none~1|nor_conv_3x3~2|'
  nas predict tss.npz   # what it is, and how good
"""  # noqa: E501

_SCORED = "architectures scored"


@guarded
def fit(
    recipe: Annotated[
        str,
        typer.Argument(metavar="RECIPE", help="A recipe of a predictor, or a shipped one's name."),
    ],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Settings of the recipe.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Where the predictor goes; NAME.npz when left out."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    workers: WorkerCount = 0,
    executor: ExecutorName = "processes",
    json_: JsonTarget = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Say nothing while it runs.")] = False,
) -> None:
    """Fit a predictor of accuracy, and say how good it is on cells that it has not seen.

    Scores of proxies are kept beside the file, in FILE.scores.sqlite: interrupted and started
    again, it goes on, and another seed or regressor needs no scoring at all.
    """
    from nas.fitting import fit as fit_predictor
    from nas.fitting import read_data
    from nas.recipe import resolve_recipe_path
    from nas.recipe.fit import load_fit_recipe
    from nas.workers import make_workers

    check_targets(json_)
    loaded = load_fit_recipe(resolve_recipe_path(recipe, "fit"), overrides or [])
    path = Path(f"{loaded.name}.npz") if out is None else out
    if path.exists() and not force:
        raise NasError(f"{path}: is there already; name another file by --out, or give --force")
    if not path.parent.is_dir():
        raise NasError(f"{path}: there is no folder {path.parent}")
    with (
        _scores(loaded, path) as store,
        make_workers(workers, executor, device=loaded.conditions.device) as hands,
        CountProgress(_SCORED, quiet=quiet) as progress,
    ):
        data = read_data(loaded, store, progress, hands)
    if not quiet:
        rows = f"{len(data.truth):,} rows, {data.inputs.shape[1]} inputs"
        note(f"{rows}, {loaded.train if loaded.train == 'all' else f'{loaded.train:,}'} to train")
    began = time.monotonic()
    fitted, _ = fit_predictor(loaded, data)
    saved = fitted.save(path)
    if not quiet:
        size = path.stat().st_size / 2**20
        note(f"fitted in {duration(time.monotonic() - began)}; {path}, {size:.2f} MiB")
    if json_ is not None:
        emit_json(dict(saved.about), json_)
    if json_ != "-":
        _show(saved)


@guarded
def suggest(
    recipe: Annotated[
        str,
        typer.Argument(metavar="RECIPE", help="A recipe of a predictor, or a shipped one's name."),
    ],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Settings of the recipe.")
    ] = None,
    number: Annotated[int, typer.Option("--number", "-n", min=1, help="How many.")] = 8,
    by: Annotated[
        str,
        typer.Option(
            metavar="spread|best",
            help="'spread': those that tell most of all others; 'best': those predicted best.",
        ),
    ] = "spread",
    workers: WorkerCount = 0,
    executor: ExecutorName = "processes",
    json_: JsonTarget = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Say nothing while it runs.")] = False,
) -> None:
    """Say which architectures to train next, so that few labels make a good predictor.

    With truth=TABLE:COLUMN, those in the table are trained already. Scores of proxies are kept in
    RECIPE.npz.scores.sqlite, where nas fit finds them, too.
    """
    from nas.fitting import SUGGEST
    from nas.fitting import suggest as suggest_archs
    from nas.recipe import resolve_recipe_path
    from nas.recipe.fit import load_fit_recipe
    from nas.space_file import find_space
    from nas.workers import make_workers

    check_targets(json_)
    if by not in SUGGEST:
        raise NasError(f"--by: expected {' or '.join(SUGGEST)}, got {by!r}")
    loaded = load_fit_recipe(resolve_recipe_path(recipe, "fit"), overrides or [])
    path = Path(f"{loaded.name}.npz")
    with (
        _scores(loaded, path) as store,
        make_workers(workers, executor, device=loaded.conditions.device) as hands,
        CountProgress(_SCORED, quiet=quiet) as progress,
    ):
        found = suggest_archs(loaded, number, by, store, progress, hands)
    texts = [find_space(loaded.space).to_str(arch) for arch in found]
    if json_ is not None:
        emit_json({"recipe": loaded.name, "by": by, "archs": texts}, json_)
    if json_ != "-":
        for text in texts:
            typer.echo(text)


@contextmanager
def _scores(recipe: FitRecipe, path: Path) -> Iterator[Store | None]:
    """Open the scores of proxies that lie beside a predictor's file, if there are any to keep."""
    from nas.predictor.inputs import GRAPHS
    from nas.store import Store

    if all(source in GRAPHS for source in recipe.inputs):
        yield None
        return
    with Store(path.with_name(path.name + ".scores.sqlite")) as store:
        yield store


@guarded
def predict(
    predictor: Annotated[
        str, typer.Argument(metavar="PREDICTOR", help="A file, or the name of a shipped one.")
    ],
    archs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="ARCH",
            help="Official strings; '-' reads one per line from standard input. None describes "
            "the predictor.",
        ),
    ] = None,
    json_: JsonTarget = None,
) -> None:
    """Predict the accuracy of architectures, each with a 90 % interval."""
    from nas.predictor.predictor import Predictor

    check_targets(json_)
    loaded = Predictor.load(predictor)
    if not archs:
        if json_ is not None:
            emit_json(dict(loaded.about), json_)
        if json_ != "-":
            _show(loaded)
        return
    texts = [line.strip() for line in sys.stdin if line.strip()] if archs == ["-"] else archs
    found = loaded.predict(texts)
    if json_ is not None:
        rows = [{"arch": t, **p._asdict()} for t, p in zip(texts, found, strict=True)]
        emit_json({"predictor": loaded.name, "rows": rows}, json_)
    if json_ != "-":
        emit_table(
            ["predicted", "low", "high", "architecture"],
            [
                [f"{p.value:.2f}", f"{p.low:.2f}", f"{p.high:.2f}", text]
                for text, p in zip(texts, found, strict=True)
            ],
        )


def _show(predictor: Predictor) -> None:
    about = predictor.about
    what = about["truth"]["measure"] or about["truth"]["column"]
    typer.echo(
        f"{about['name']}: {what} of {predictor.space.name} by {about['regressor']['name']}, "
        f"{len(about['train_rows']):,} training cells ({about['choose']['name']} choice), "
        f"seed {about['seed']}"
    )
    found = about["held_out"]
    kinds = ("random", "stratified", "cross_validation")
    rows = [_row(kind, found[kind]) for kind in kinds if kind in found]
    emit_table(
        ["test cells", "n", "Kendall", "Spearman", "MAE", "best tenth", "90 % interval holds"],
        rows,
    )


def _row(kind: str, found: dict[str, Any]) -> list[str]:
    inside = found["coverage"]
    return [
        kind.replace("_", "-"),
        f"{found['n']:,.0f}",
        f"{found['kendall']:.3f}",
        f"{found['spearman']:.3f}",
        f"{found['mae']:.3f}",
        f"{found['kendall_best_tenth']:.3f}",
        f"{100 * inside['overall']:.1f} % of them",
    ]

"""Where predictors are, and what they say of themselves; without making their models."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from nas.predictor.container import BadPredictor, read
from nas.predictor.inputs import Inputs
from spaces.errors import did_you_mean


def shipped_predictors() -> dict[str, Path]:
    """Return the predictors that come with the package, by name."""
    folder = Path(__file__).resolve().parent / "fitted"
    return {path.stem: path for path in sorted(folder.glob("*.npz"))}


def resolve(text: str) -> Path:
    """Return the file that ``text`` means: a path, or the name of a shipped predictor.

    Raises:
        BadPredictor: There is neither.
    """
    path = Path(text).expanduser()
    if path.is_file():
        return path
    shipped = shipped_predictors()
    if text in shipped:
        return shipped[text]
    raise BadPredictor(
        f"{text}: no such file, and no predictor of this name comes with the package."
        f"{did_you_mean(text, list(shipped))} Known: {', '.join(shipped) or 'none'}"
    )


@lru_cache(maxsize=16)
def inputs_of(text: str) -> Inputs:
    """Return what a predictor reads."""
    path = resolve(text)
    header, _, _ = read(path)
    try:
        return Inputs.from_json(header["inputs"])
    except (KeyError, TypeError) as error:
        raise BadPredictor(f"{path}: no predictor of this version: {error}") from None


def describe(path: Path) -> str:
    """Return what a predictor's file predicts, in one line."""
    about = read(path)[0]["about"]
    what = about["truth"]["measure"] or about["truth"]["column"]
    judged = about["held_out"]
    found = judged.get("random") or judged["cross_validation"]
    return (
        f"{what}; {len(about['train_rows']):,} cells to train, Kendall {found['kendall']:.3f} and "
        f"{found['mae']:.2f} points off on the others"
    )

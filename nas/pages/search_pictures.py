"""The pictures of a search's page.

Costs are drawn against the score as it is; nothing is smoothed, and what is cut says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from nas.drawing.outline import outline
from nas.drawing.plots import (
    draw_agreement,
    draw_scores,
    draw_steps,
    draw_trade_off,
    worth_showing,
)
from nas.drawing.sketches import cells_of, draw_cell, draw_network, network_words
from nas.objectives import OWN, parse_objective
from nas.pages.base import Picture
from nas.pages.measures import COSTS, truth_text
from nas.pareto import front_of
from nas.runs.read import Run, TrialRow
from nas.wording import number_text

if TYPE_CHECKING:
    from spaces.base import Arch

_CELLS = 4  # cells drawn, the best architecture's among them


def pictures(run: Run) -> dict[str, Picture]:
    """Return the pictures of a search by the names of their files.

    Args:
        run: The search.
    """
    found: dict[str, Picture] = {}
    if run.result["best"] is not None:
        found |= _sketches(run)
    if run.trials:
        found["scores"] = _scores_picture(run)
    if run.truth and not run.objectives:
        found["incumbent"] = _incumbent_picture(run)
    if len(run.scored) >= 2:
        found |= _cost_pictures(run)
    if sum(row.arch in run.truth for row in run.scored) >= 2:
        found["truth"] = _truth_picture(run)
    return found


def _sketches(run: Run) -> dict[str, Picture]:
    """Return the best architectures as cells, and the first as a whole network."""
    space, conditions = run.space, run.recipe["conditions"]
    best = space.from_str(run.result["best"]["arch"])
    count = _CELLS // max(1, len(cells_of(space, best)))
    archs = [space.from_str(row["arch"]) for row in run.result["top"][:count]]
    settings = {"num_classes": conditions["num_classes"], "resolution": conditions["resolution"]}
    found: dict[str, Picture] = {}
    for place, arch in enumerate(archs, start=1):
        section = "best" if place == 1 else "found"
        found |= _cell_pictures(run, arch, place, section)
    for place, arch in enumerate(archs, start=1):
        parts = outline(space, arch, **settings)
        if not parts or (place > 1 and found):
            break
        note = "Outlined strongly: what the architecture decides. Right: what leaves each part."
        title = "The whole network"
        words = f"{title}: {network_words(parts)}"
        found["network"] = Picture(title, draw_network(parts), words, note, "best")
    return found


def _cell_pictures(run: Run, arch: Arch, place: int, section: str) -> dict[str, Picture]:
    found = {}
    cells = cells_of(run.space, arch)
    for number, cell in enumerate(cells):
        name = f"cell_{place}" + (f"_{number + 1}" if len(cells) > 1 else "")
        titles = (f"Place {place}" if place > 1 else "", cell.title or ("The cell" * (place == 1)))
        score = number_text(run.result["top"][place - 1]["score"])
        note = f"{run.score_name} {score}" if place > 1 else ""
        title = ": ".join(filter(None, titles))
        found[name] = Picture(
            title, draw_cell(cell), f"Place {place}, {cell.words()}", note, section
        )
    return found


def _scores_picture(run: Run) -> Picture:
    least, hidden = _least(run, [row.score for row in run.scored])
    scores = [trial.score for trial in run.trials]
    figure = draw_scores(scores, proxy=run.score_name, maximise=run.rises, least=least)
    best = run.best_so_far
    known = best[~np.isnan(best)]
    alt = f"Scores of {len(run.trials):,} architectures in the order they came"
    note = ""
    if len(known):
        alt += f"; the best rises from {known[0]:.4g} to {known[-1]:.4g}"
        last = int(np.flatnonzero(best == known[-1])[0]) + 1
        note = f"The best was found as number {last:,} of {len(run.trials):,}.{hidden}"
    return Picture(f"Best {run.score_name} over time", figure, alt, note, "course")


def _incumbent_picture(run: Run) -> Picture:
    """Draw what the benchmark says of the best so far: whether a better score was a better pick."""
    values = run.truth_so_far
    figure = draw_steps(values, up=run.truth_name)
    known = [value for value in values if value is not None]
    ends = f": {known[0]:.2f} at first, {known[-1]:.2f} at last" if known else ""
    alt = f"{run.truth_name} of the best so far by score{ends}"
    title = "What the benchmark says of the best so far"
    note = "It falls where a better score was a worse pick. Of several equal scores, the first."
    return Picture(title, figure, alt, note, "course")


def _cost_pictures(run: Run) -> dict[str, Picture]:
    """Return the score against every cost that is known, and the objectives against each other."""
    rows = run.scored
    first = run.score_name
    known = ["params", "flops", *dict.fromkeys(name for row in rows for name in row.measures)]
    if run.objectives:
        goals = [parse_objective(text) for text in run.objectives]
        known = [goal.name for goal in goals[1:]] + [
            name for name in known if name not in {goal.name for goal in goals}
        ]
    signs = {
        parse_objective(text).name: parse_objective(text).sign for text in run.objectives or ()
    }
    found = {}
    for name in known:
        if name == first or name in OWN:
            continue
        found[f"against_{name}"] = _trade_off(run, rows, name, signs.get(name, -1))
    return found


def _trade_off(run: Run, rows: Sequence[TrialRow], name: str, sign: int) -> Picture:
    pairs = [(row.quantity(name), row.score, row.arch) for row in rows]
    known = [(x, y, arch) for x, y, arch in pairs if x is not None and y is not None]
    front = front_of([(run.sign * y, sign * x) for x, y, _ in known]).tolist()
    best = run.result["best"]["arch"]
    marked = [place for place, (_, _, arch) in enumerate(known) if arch == best]
    label = COSTS.get(name, name)
    least, hidden = _least(run, [y for _, y, _ in known])
    figure = draw_trade_off(
        [x for x, _, _ in known], [y for _, y, _ in known], front,
        names=(label, run.score_name), marked=marked, least=least,
        more_is_better=sign > 0,
    )  # fmt: skip
    title = f"Against {label}"
    alt = f"{run.score_name} against {label} of {len(known):,} architectures, "
    alt += f"{len(front)} on the front"
    note = f"{len(front):,} of {len(known):,} are on the front.{hidden}"
    return Picture(title, figure, alt, note, "costs")


def _truth_picture(run: Run) -> Picture:
    pairs = [
        (row.score, run.truth[row.arch])
        for row in run.scored
        if row.arch in run.truth and row.score is not None
    ]
    what, note = run.truth_name, truth_text(run)
    least, hidden = _cut([value for _, value in pairs])
    note += hidden
    inside = [pair for pair in pairs if least is None or pair[1] >= least]
    figure = draw_agreement({"": inside}, run.score_name, what)
    alt = f"{what} against {run.score_name} of {len(pairs):,} architectures. {note}"
    return Picture("Score against the benchmark", figure, alt, note, "agreement")


def _least(run: Run, values: Sequence[float | None]) -> tuple[float | None, str]:
    """Return where a picture of scores begins and what that hides, where more is better."""
    return _cut([value for value in values if value is not None]) if run.rises else (None, "")


def _cut(values: Sequence[float]) -> tuple[float | None, str]:
    """Return where the vertical axis of a picture begins, and a sentence on what lies below.

    None where all can be shown.
    """
    if not values:
        return None, ""
    least = worth_showing(values)
    hidden = sum(value < least for value in values)
    if not hidden:
        return None, ""
    return least, f" Not shown: {hidden:,} below {least:.4g}."

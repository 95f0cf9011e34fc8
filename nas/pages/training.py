"""What a training leaves for a person: sentences, a table, one HTML page, and pictures."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nas import plain_yaml
from nas.drawing.plots import draw_agreement, draw_confusion, draw_curves
from nas.pages.base import Picture, Table, last_is_code, render, shown
from nas.wording import duration, number_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def verdict(summary: Mapping[str, Any]) -> list[str]:
    """Return what came of a training, in sentences.

    Args:
        summary: What :func:`nas.runs.training.summarise_training` returned.
    """
    best = summary["archs"][summary["best"]]
    seeds = len([run for run in best["runs"] if run["accuracy"] is not None])
    spread = "" if best["std"] is None else f" ± {best['std']:.2f} (n = {seeds} seeds)"
    data = summary["data"]
    text = f"{best['accuracy']:.2f} %{spread} test accuracy on {data['test']:,} images of "
    text += f"{data['name']}"
    if best.get("truth") is not None:
        table = summary["benchmark"]
        text += (
            f"; {table['column']} says {best['truth']:.2f}, rank {best['rank']:,} of {table['n']:,}"
        )
    sentences = [f"{text}."]
    if len(summary["archs"]) > 1:
        how = summary["chosen_by"]
        sentences[0] += f" It is the first of {len(summary['archs'])} by {how}."
    if summary["gain"] is not None:
        sentences.append(_gain_text(summary["gain"]))
    for key, told in summary["agreement"].items():
        what = {"score": "The search's score", "truth": "The table"}[key]
        sentences.append(
            f"{what} orders the {told['n']} architectures as their trained accuracy does by "
            f"Kendall {told['kendall']:.2f} [{told['low']:.2f}, {told['high']:.2f}]: "
            f"{_holds(told)}."
        )
    return sentences


def _holds(told: Mapping[str, float]) -> str:
    if told["low"] > 0:
        return "the ranking held"
    if told["high"] < 0:
        return "the ranking is the wrong way round"
    return "too few, or too much alike, to tell"


def _gain_text(gain: Mapping[str, Any]) -> str:
    top, random = gain["n"]
    way = "better" if gain["points"] >= 0 else "worse"
    sure = "" if gain["low"] > 0 or gain["high"] < 0 else "; the interval holds 0"
    return (
        f"The {top} found are {abs(gain['points']):.2f} points {way} than {random} random ones of "
        "their size "
        f"[{gain['low']:+.2f}, {gain['high']:+.2f}] on average{sure}; the best of either "
        f"{gain['best_top']:.2f} and {gain['best_random']:.2f} %."
    )


def table(summary: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return the headers and rows of the architectures, as texts."""
    rows = summary["archs"]
    known = {
        key: any(row.get(key) is not None for row in rows)
        for key in ("validation", "score", "truth", "params", "std")
    }
    groups = any(row.get("group") for row in rows)
    headers = ["#", *(["group"] if groups else []), "test %"]
    headers += [name for key, name in (("std", "±"), ("validation", "validation %")) if known[key]]
    headers += [name for key, name in (("score", "score"), ("truth", "tabulated %")) if known[key]]
    headers += ["rank"] if known["truth"] else []
    headers += ["params"] if known["params"] else []
    lines = []
    for row in rows:
        line = [str(row["number"] + 1), *([row.get("group", "")] if groups else [])]
        line.append(_percent(row["accuracy"]))
        line += [_percent(row[key]) for key in ("std", "validation") if known[key]]
        line += [number_text(row.get("score"))] if known["score"] else []
        if known["truth"]:
            place = row.get("rank")
            line += [_percent(row.get("truth")), "-" if place is None else f"{place:,}"]
        line += [f"{row['params']:,}"] if known["params"] else []
        lines.append([*line, row.get("arch", "network")])
    return [*headers, "architecture"], lines


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def failures(summary: Mapping[str, Any]) -> list[str]:
    """Return the messages of jobs that failed."""
    return [
        f"{row.get('arch', 'network')}, seed {run['seed']}: {run['error']}"
        for row in summary["archs"]
        for run in row["runs"]
        if run["error"] is not None
    ]


def pictures(
    summary: Mapping[str, Any], results: Sequence[Mapping[str, Any]], numbers: Sequence[int]
) -> dict[str, tuple[str, Figure]]:
    """Return the pictures of a training: by file name a title and the figure.

    Args:
        summary: What :func:`nas.runs.training.summarise_training` returned.
        results: Of the jobs.
        numbers: For each job the number of its architecture.
    """
    curves = {
        f"{number + 1}, seed {result['seed']}": [
            (epoch["train_accuracy"], epoch["validation_accuracy"]) for epoch in result["epochs"]
        ]
        for number, result in zip(numbers, results, strict=True)
        if "error" not in result
    }
    found = {"curves": ("Accuracy over the epochs", draw_curves(curves))}
    best = best_result(summary, results, numbers)
    matrix = best["test"]["confusion"]
    title = "What test images are taken for, by the best network"
    found["confusion"] = (title, draw_confusion(matrix, summary["data"]["classes"]))
    for key, across in (("score", "score of the search"), ("truth", "tabulated accuracy, %")):
        groups: dict[str, list[tuple[float, float]]] = {}
        for row in summary["archs"]:
            if row.get(key) is not None and row["accuracy"] is not None:
                pair = (row[key], row["accuracy"])
                groups.setdefault(row.get("group", ""), []).append(pair)
        if sum(map(len, groups.values())) >= 3:
            figure = draw_agreement(groups, across, "trained accuracy, %")
            found[f"by_{key}"] = (f"Trained accuracy against the {across.split(',')[0]}", figure)
    return found


def best_result(
    summary: Mapping[str, Any], results: Sequence[Mapping[str, Any]], numbers: Sequence[int]
) -> Mapping[str, Any]:
    """Return the result of the best run of the best architecture."""
    row = summary["archs"][summary["best"]]
    seed = row["runs"][row["best_run"]]["seed"]
    return next(
        result
        for number, result in zip(numbers, results, strict=True)
        if number == summary["best"] and result["seed"] == seed
    )


def table_of(summary: Mapping[str, Any], caption: str) -> Table:
    """Return the architectures of a training as a table of a page."""
    headers, lines = table(summary)
    told = last_is_code(caption, headers, lines)
    groups = [i for i, head in enumerate(headers) if head == "group"]
    return replace(told, texts=groups, marked=(summary["best"],))


def environment_table(told: Mapping[str, Any]) -> Table:
    """Return what a run ran on as a table of a page."""
    names = {
        "started": "started", "device_name": "device", "cpus": "processors", "threads": "threads",
        "platform": "system", "nas-search": "nas-search", "commit": "commit", "python": "Python",
        "torch": "torch", "numpy": "numpy", "scipy": "scipy", "optuna": "optuna",
    }  # fmt: skip
    rows = [[name, str(told[key])] for key, name in names.items() if told.get(key) is not None]
    return Table("What it ran on", ["what", "value"], rows, texts=(0, 1))


def command_text(told: Mapping[str, Any]) -> str:
    """Return the command line of a run, as a person would give it again."""
    command: list[str] = list(told.get("command", []))
    if command and command[0] == "__main__.py":
        command[:1] = ["python", "-m", "nas.cli"]
    return shlex.join(command)


def page(summary: Mapping[str, Any], drawn: Mapping[str, tuple[str, Figure]]) -> str:
    """Return the HTML page of a training; it needs nothing beside itself."""
    data, told = summary["data"], summary["environment"]
    failed = failures(summary)
    return render(
        "training.html",
        name=summary["name"],
        summary=summary["recipe"]["summary"],
        verdict=verdict(summary),
        facts=_facts(summary),
        table=table_of(summary, "Trained, measured on test images"),
        failures=Table("Failed", ["what"], [[text] for text in failed], texts=(0,))
        if failed
        else None,
        figures=shown(
            {name: Picture(title, figure, title) for name, (title, figure) in drawn.items()}
        ),
        images=(
            f"{data['name']}: {data['train']:,} training, {data['validation']:,} validation and "
            f"{data['test']:,} test images of {'x'.join(map(str, data['shape']))}, "
            f"{len(data['classes'])} classes."
        ),
        recipe=plain_yaml.dump(summary["recipe"]),
        environment=environment_table(told),
        command=command_text(told),
        again="nas train recipe.yaml",
    )


def _facts(summary: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return what a person looks for first: name, value, remark."""
    best, recipe = summary["archs"][summary["best"]], summary["recipe"]
    facts = [
        ("architectures", f"{len(summary['archs']):,}", ""),
        ("trainings", f"{sum(len(row['runs']) for row in summary['archs']):,}", ""),
        ("epochs", f"{recipe['epochs']:,}", f"{recipe['batch']} images a step"),
        ("data", str(summary["data"]["name"]), f"{summary['data']['train']:,} training images"),
        ("time", duration(summary["seconds"]), "of training"),
    ]
    if best.get("params") is not None:
        facts.append(("parameters of the best", f"{best['params']:,}", ""))
    return facts

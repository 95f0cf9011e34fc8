"""The page of a search, ``report.html`` in its run folder, written from that folder alone.

What was searched and how, what was found, how sure that is, what it cost, and how to repeat it.
Costs are drawn against the score as it is; nothing is smoothed, and what is cut says so.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas import plain_yaml
from nas.drawing.sketches import cells_of
from nas.explanation import Explanation
from nas.objectives import OWN
from nas.pages.base import Picture, Table, last_is_code, render, shown
from nas.pages.measures import COSTS, columns, spearman_of
from nas.pages.search_pictures import pictures
from nas.pages.training import command_text, environment_table, table_of, verdict
from nas.runs.read import TRAINING, TRIALS, TRUTH, VERIFICATION, Run, read_run
from nas.runs.search import verdict_text
from nas.wording import costs_text, duration, number_text
from nas.writing import write_whole

PAGE = "report.html"
_ROWS = 25  # of a table, before it is cut


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        id: Its anchor.
        title: Its heading.
        sentences: Below it.
        tables: Below its pictures.
        links: Files and what they are called.
        small: Whether its pictures stand close together.
        code: A text to copy.
    """

    id: str
    title: str
    sentences: Sequence[str] = ()
    tables: Sequence[Table] = ()
    links: Sequence[tuple[str, str]] = ()
    small: bool = False
    code: str = ""


def write_page(path: Path) -> Path:
    """Write the page of a finished search and return where it is.

    Args:
        path: The run folder.

    Raises:
        NasError: There is no finished search, its space is not there any more, or it cannot be
            written.
    """
    run = read_run(path)
    page = path / PAGE
    write_whole(page, page_of(run, pictures(run)))
    return page


def page_of(run: Run, drawn: Mapping[str, Picture]) -> str:
    """Return the page of a search.

    Args:
        run: The search.
        drawn: Its pictures.
    """
    sections = [
        section
        for section in (
            _best(run),
            _found(run),
            Section("method", "What was searched, and how", how(run)),
            _course(run),
            _costs(run),
            _agreement(run),
            _trained(run),
            _failures(run),
        )
        if section is not None
    ]
    return render(
        "search.html",
        name=run.name,
        summary=run.recipe["summary"],
        verdict=_verdict(run),
        facts=_facts(run),
        sections=sections,
        figures=shown(drawn),
        environment=environment_table(run.environment),
        command=command_text(run.environment),
        again="nas-search recipe.yaml",
        recipe=plain_yaml.dump(dict(run.recipe)),
        files=_files(run),
    )


def _verdict(run: Run) -> list[str]:
    best = run.result["best"]
    scored, asked = len(run.scored), len(run.trials)
    if best is None:
        return [f"Nothing was found: all {asked:,} architectures failed."]
    costs = costs_text(best["params"], best["flops"])
    found = f"The best of {asked:,} architectures of {run.space.name}: "
    if run.objectives:
        goals = " and ".join(run.objectives)
        found = f"{len(run.result['front']):,} of {scored:,} scored architectures of "
        found += f"{run.space.name} are a trade-off of {goals} that no other one beats. The first: "
    if "low" in best:
        found += (
            f"predicted accuracy {best['score']:.2f}, 90 % interval {best['low']:.2f} to "
            f"{best['high']:.2f}; {costs}."
        )
    else:
        found += f"{run.score_name} {number_text(best['score'])}; {costs}."
    sentences = [found]
    if run.result["benchmark"] is not None:
        sentences.append(f"Benchmark, {verdict_text(dict(run.result))}.")
    return sentences


def _facts(run: Run) -> list[tuple[str, str, str]]:
    """Return what a person looks for first: name, value, remark."""
    result, trials = run.result, run.trials
    fresh = [trial for trial in trials if not trial.cached]
    spent = math.fsum(trial.seconds for trial in fresh)
    rate = f"{len(fresh) / spent:,.1f} per second" if spent > 0 else ""
    known = f"{result['n_cached']:,} known before" if result["n_cached"] else ""
    facts = [
        ("architectures", f"{len(trials):,}", f"of {_many(len(run.space))} in the space"),
        ("failed", f"{result['n_failed']:,}", _share(result["n_failed"], len(trials))),
        ("time", duration(result["seconds"]), ", ".join(filter(None, [rate, known]))),
    ]
    best = result["best"]
    if best is not None:
        facts.append(("parameters of the best", f"{best['params']:,}", ""))
        facts.append(("FLOPs of the best", f"{best['flops'] / 1e6:,.2f} M", ""))
        facts += [
            (f"{COSTS.get(name, name)}, of the best", _text(value), "")
            for name, value in _measures(best).items()
        ]
    facts.append(("seed", str(run.recipe["seed"]), ""))
    return facts


def _many(number: int) -> str:
    return f"{number:,}" if number < 10**9 else f"about {number:.1e}"


def _share(part: int, whole: int) -> str:
    if not part or not whole:
        return ""
    return f"{100 * part / whole:.1f} %" if part / whole >= 0.001 else "below 0.1 %"


def _measures(row: Mapping[str, Any]) -> dict[str, float]:
    """Return what a found architecture holds by name beside the usual."""
    usual = {"arch", "score", "params", "flops", "trial", "truth", "rank", "low", "high", *OWN}
    return {name: value for name, value in row.items() if name not in usual}


def how(run: Run) -> list[str]:
    """Return in sentences what was searched, by what, how, and within which limits."""
    recipe = run.recipe
    settings = run.result.get("settings") or {}
    space = run.space
    conditions = recipe["conditions"]
    ran = run.strategy
    options = {key: x for key, x in recipe["strategy"].items() if key != "name"}
    told = ", ".join(f"{key} {value}" for key, value in options.items())
    sentences = [
        f"Space: {space.name}, {space.summary.rstrip('.')}.",
        f"Judged by {run.proxy}, {'higher' if run.rises else 'lower'} is better, on untrained "
        f"networks of {conditions['num_classes']} classes at {conditions['resolution']} pixels, "
        f"{'noise for images' if conditions['images'] is None else 'images of a file'}, seed "
        f"{recipe['seed']}, {conditions['repeats']} draw"
        f"{'s' if conditions['repeats'] > 1 else ''} of weights.",
    ]
    if ran == recipe["strategy"]["name"]:
        sentences.append(
            f"Proposed by {ran}{f' ({told})' if told else ''}, {recipe['batch']} at a time, up to "
            f"{recipe['budget']:,} architectures."
        )
    else:
        sentences.append(
            f"The whole space was ranked, for together its networks take less time than "
            f"{recipe['budget']:,} proposed by {recipe['strategy']['name']} would one by one."
        )
    if settings.get("constraints"):
        limits = "; ".join(settings["constraints"])
        sentences.append(f"Nothing outside these limits was scored: {limits}.")
    if run.result["latency"]:
        sentences.append(f"Latencies: {run.result['latency']}.")
    if run.objectives:
        sentences.append(f"Objectives: {', '.join(run.objectives)}; less is better behind a minus.")
    table = run.result["benchmark"]
    if table is not None:
        sentences.append(
            f"Beside it, and never searched by: {table['measure'] or table['column']} of "
            f"{table['n']:,} architectures, from {Path(table['source']).name} (sha256 "
            f"{table['sha256'][:12]})."
        )
    return sentences


def _best(run: Run) -> Section | None:
    best = run.result["best"]
    if best is None:
        return None
    return Section("best", "The best architecture", code=best["arch"])


def _found(run: Run) -> Section | None:
    top = run.result["top"]
    if not top:
        return None
    table = run.result["benchmark"]
    predicted = "low" in top[0]
    names = list(_measures(top[0]))
    headers = ["place", *(["predicted", "90 % interval"] if predicted else [run.score_name])]
    headers += ["parameters", "M FLOPs", *(COSTS.get(name, name) for name in names)]
    headers += ["true", "true rank"] if table is not None else []
    rows = []
    for place, row in enumerate(top[:_ROWS], start=1):
        line = [str(place), f"{row['score']:.2f}" if predicted else number_text(row["score"])]
        line += [f"{row['low']:.2f} to {row['high']:.2f}"] if predicted else []
        line += [f"{row['params']:,}", f"{row['flops'] / 1e6:,.2f}"]
        line += [_text(row[name]) for name in names]
        line += _true(row) if table is not None else []
        rows.append([*line, row["arch"]])
    what = "front of trade-offs" if run.objectives else "best"
    told = last_is_code(f"The first {len(rows)} of the {what}", [*headers, "architecture"], rows)
    more = f"{len(run.trials):,} architectures were asked about."
    told = Table(
        told.caption, told.headers, told.rows, codes=told.codes, marked=(0,), link=TRIALS, note=more
    )
    single = len(cells_of(run.space, run.space.from_str(top[0]["arch"]))) == 1
    return Section("found", "What was found", tables=[told], small=single)


def _true(row: Mapping[str, Any]) -> list[str]:
    if row["truth"] is None:
        return ["-", "-"]
    return [f"{row['truth']:.2f}", f"{row['rank']:,}"]


def _course(run: Run) -> Section | None:
    if not run.trials:
        return None
    return Section("course", "How the search went")


def _costs(run: Run) -> Section | None:
    if len(run.scored) < 2:
        return None
    sentences = [
        "Each point is an architecture that was scored. On the line are those that no other one "
        "beats in both quantities at once."
    ]
    tables = []
    if run.objectives and len(run.result["front"]) > len(run.result["top"]):
        front = run.result["front"]
        names = [name for name in _measures(front[0]) if name not in ("params", "flops")]
        rows = [
            [
                *(_text(row[name]) for name in ("score", "params", "flops", *names)),
                row["arch"],
            ]
            for row in front[:_ROWS]
        ]
        headers = [run.score_name, "parameters", "FLOPs", *names, "architecture"]
        caption = f"The front of {' and '.join(run.objectives)}"
        cut = f"{len(rows)} of {len(front)} shown; the others are in result.json."
        told = last_is_code(caption, headers, rows)
        note = cut if len(front) > len(rows) else ""
        tables = [Table(told.caption, told.headers, rows, codes=told.codes, note=note)]
    return Section("costs", "Score against cost", sentences, tables)


def _text(value: float | None) -> str:
    return number_text(None if value is None else float(value))


def _agreement(run: Run) -> Section | None:
    if len(run.scored) < 4:
        return None
    found = columns(run)
    rows = [[one.name, *(spearman_of(one, other) for other in found)] for one in found]
    sentences = [
        f"Spearman's rank correlation among the {len(run.scored):,} architectures that this "
        f"search has scored{_OF_WHOM.get(run.strategy, _VISITED)}"
    ]
    headers = ["measure", *(column.name for column in found)]
    tables = [Table("Rank agreement", headers, rows, texts=(0,))]
    links = [(TRUTH, "The tabulated values: truth.csv")] if run.truth else []
    if run.result["explanation"] is not None:
        tables += _explained(run.result["explanation"])
    return Section("agreement", "Do the measures agree?", sentences, tables, links)


_VISITED = (
    ". A search looks at good architectures more often than at bad ones, so these are not the "
    "correlations of the whole space."
)
_OF_WHOM = {"random": ", drawn at random.", "exhaustive": ", one after another."}


def _explained(values: Mapping[str, Any]) -> list[Table]:
    """Return why the ensemble put the first ones first."""
    explanation = Explanation.from_json(values)
    headers, rows = explanation.table()
    places = last_is_code(
        f"Place of the best by each member; 1 is above all of {explanation.reference} sampled "
        "architectures",
        headers,
        rows,
    )
    holds = [[sentence] for sentence in explanation.sentences()]
    changes = Table(
        f"What would change the first place among the best {explanation.rivals + 1}, by the weight "
        "of one member",
        ["member (its weight)"],
        holds,
        texts=(0,),
    )
    return [places, changes]


def _trained(run: Run) -> Section | None:
    sentences: list[str] = []
    tables, links = [], []
    for folder, title in ((VERIFICATION, "Verification"), (TRAINING, "Final training")):
        summary = run.training(folder)
        if summary is None:
            continue
        sentences += [f"{title}: {sentence}" for sentence in verdict(summary)]
        tables.append(table_of(summary, f"{title}, on {summary['data']['name']}"))
        if (run.path / folder / PAGE).is_file():
            links.append((f"{folder}/{PAGE}", f"{title}: its own page"))
    if not tables:
        return None
    return Section("trained", "Trained", sentences, tables, links)


def _failures(run: Run) -> Section | None:
    failed = [trial for trial in run.trials if trial.error is not None]
    if not failed:
        return None
    reasons = Counter(trial.error for trial in failed)
    first = {trial.error: trial for trial in reversed(failed)}
    rows = [
        [f"{count:,}", _share(count, len(run.trials)), str(why), first[why].arch]
        for why, count in reasons.most_common(_ROWS)
    ]
    headers = ["architectures", "of all", "reason", "the first of them"]
    told = Table("Failures by reason", headers, rows, texts=(2,), codes=(3,), link=TRIALS)
    said = f"{len(failed):,} of {len(run.trials):,} architectures have no score."
    return Section("failures", "Failures", [said], [told])


_FILES = {
    "result.json": "what was found, for programs",
    "trials.csv": "every architecture that was asked about",
    "members.csv": "what each member of the ensemble adds to each score",
    "truth.csv": "what the benchmark says of each architecture",
    "recipe.yaml": "every setting; run it again",
    "environment.json": "versions, machine, command",
    "best.py": "makes the best network again",
    "best.safetensors": "its trained weights",
    "space.yaml": "the space",
    "scores.sqlite": "the score cache",
}


def _files(run: Run) -> list[tuple[str, str]]:
    return [(name, what) for name, what in _FILES.items() if (run.path / name).is_file()]

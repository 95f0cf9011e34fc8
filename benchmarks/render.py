"""Put the measured results into benchmarks/README.md: ``python benchmarks/render.py``.

Every table between ``<!-- NAME -->`` and ``<!-- /NAME -->`` is made from ``results/*.json``; the
words around them are written by hand.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"


def load(name: str) -> Any:  # noqa: ANN401 - whatever the file holds
    """Return one result, as ``nas rank --json`` or a script of this folder wrote it."""
    return json.loads((RESULTS / f"{name}.json").read_text())


def reports(name: str) -> list[dict[str, Any]]:
    """Return what ``nas rank --json`` wrote: a report per column, bare where there is but one."""
    content = load(name)
    return content if isinstance(content, list) else [content]


def ranks(*names: str) -> str:
    """Return a table with a line per result and proxy."""
    lines = [
        "| truth | n | proxy | Spearman [95 %] | Kendall [95 %] | nDCG@10 | regret@1 | regret@10 | "
        "ms per architecture |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    found = [report for name in names for report in reports(name)]
    for result in found:
        column = result["environment"]["truth_column"]
        for row in result["rows"]:
            lines.append(
                f"| {column} | {row['n']:,} | `{row['proxy']}` | {interval(row, 'spearman')} | "
                f"{interval(row, 'kendall')} | {row['ndcg']:.3f} | {row['regret_1']:.2f} | "
                f"{row['regret_10']:.2f} | {1000 * row['seconds_per_arch']:.3g} |"
            )
    return "\n".join([*lines, "", where(found[0]["environment"])])


def interval(row: dict[str, Any], name: str) -> str:
    """Return ``0.933 [0.931, 0.935]``."""
    low, high = row[f"{name}_interval"]
    return f"{row[name]:.3f} [{low:.3f}, {high:.3f}]"


def where(environment: dict[str, Any]) -> str:
    """Return the line that says on what a result was measured."""
    return (
        f"Measured on {environment['cpu']}, {environment['threads']} threads, "
        f"{environment['device']}, Python {environment['python']}, torch {environment['torch']}, "
        f"seed {environment['seed']}."
    )


def choice(half: str) -> str:
    """Return the table of MeCo's readings on one half of the rows."""
    lines = ["| proxy | C10 | C100 | IN16 |", "|---|---|---|---|"]
    results = reports(f"choice_{half}")
    for number, row in enumerate(results[0]["rows"]):
        cells = [interval(result["rows"][number], "spearman") for result in results]
        lines.append(f"| `{row['proxy']}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def speed() -> str:
    """Return the table of `speed.py`."""
    result = load("speed")
    lines = ["| what | measured | bar |", "|---|---|---|"]
    lines += [f"| {row['what']} | {row['text']} | {row['bar']} |" for row in result["rows"]]
    return "\n".join([*lines, "", where(result["environment"])])


def overhead() -> str:
    """Return the table of `overhead.py`."""
    result = load("overhead")
    settings = result["settings"]
    lines = ["| strategy | microseconds per architecture, median (min to max) |", "|---|---|"]
    for name, row in result["strategies"].items():
        took = row["engine"]
        lines.append(f"| {name} | {took['median']:.0f} ({took['min']:.0f} to {took['max']:.0f}) |")
    ratio = result["tpe"]["ratio"]
    lines.append(
        f"| tpe, per trial, against bare Optuna ask/tell | {ratio['median']:.2f}x "
        f"({ratio['min']:.2f} to {ratio['max']:.2f}) |"
    )
    note = (
        f"{settings['runs']} runs of {settings['budget']:,} architectures of {settings['space']}, "
        f"batches of {settings['batch']}, Python {result['environment']['python']}, "
        f"Optuna {result['environment']['optuna']}. Aim: under 50 microseconds; TPE within 1.1x."
    )
    return "\n".join([*lines, "", note])


TABLES = {
    "tss": lambda: ranks("tss"),
    "reference": lambda: ranks("tss_reference"),
    "choice-even": lambda: choice("even"),
    "choice-odd": lambda: choice("odd"),
    "image": lambda: ranks("tss_image_c10"),
    "other": lambda: ranks("transnas", "nb101"),
    "speed": speed,
    "overhead": overhead,
}


def main() -> None:
    """Rewrite the tables of the README."""
    readme = HERE / "README.md"
    text = readme.read_text()
    for name, make in TABLES.items():
        pattern = rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)"
        if re.search(pattern, text, re.DOTALL):
            table = make()
            text = re.sub(pattern, rf"\g<1>{table}\n\g<2>", text, flags=re.DOTALL)
    readme.write_text(text)


if __name__ == "__main__":
    main()

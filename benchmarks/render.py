"""Put the measured results into README.md and formulas.md: ``python benchmarks/render.py``.

Every table between ``<!-- NAME -->`` and ``<!-- /NAME -->`` is made from ``results/*.json``; the
words around them are written by hand.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from nas.design.atoms import ROLES

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
        f"Measured on {environment['cpu']}, {environment.get('threads', 1)} threads, "
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


def speed(name: str = "speed") -> str:
    """Return the table of `speed.py`."""
    result = load(name)
    lines = ["| what | measured | bar |", "|---|---|---|"]
    lines += [f"| {row['what']} | {row['text']} | {row['bar']} |" for row in result["rows"]]
    return "\n".join([*lines, "", where(result["environment"])])


def limits() -> str:
    """Return the table of `limits.py`."""
    result = load("limits")
    lines = [
        "| space | limit | of the draws | looks, median (most) | refused after | so of memory |",
        "|---|---|---|---|---|---|",
    ]
    for space in result["spaces"]:
        refused, memory = space["refused"], space["refused_memory"]
        for row in space["rows"]:
            counts = sorted(row["looks"])
            lines.append(
                f"| {space['space']} | {row['limit']} | {100 * row['share']:.2f} % | "
                f"{counts[len(counts) // 2]} ({counts[-1]}) | {refused['seconds']:.2f} s | "
                f"{memory['seconds']:.1f} s, {memory['looks']} looks |"
            )
    seeds = len(result["spaces"][0]["rows"][0]["looks"])
    return "\n".join([*lines, "", f"{seeds} seeds. {where(result['environment'])}"])


def lookup() -> str:
    """Return the table of `lookup.py`."""
    result = load("lookup")
    lines = [
        "| device | fitted to | compared with | median error | Spearman |",
        "|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        median, rho = row["median_percent"], row["spearman"]
        lines.append(
            f"| {row['device']} | {row['sample']} | {row['checked_on']:,} | "
            f"{sum(median) / len(median):.1f} % ({max(median):.1f}) | "
            f"{sum(rho) / len(rho):.3f} ({min(rho):.3f}) |"
        )
    seeds = len(result["rows"][0]["spearman"])
    return "\n".join([*lines, "", f"{seeds} seeds: mean (worst). {where(result['environment'])}"])


def pareto() -> str:
    """Return the table of `pareto.py`."""
    result = load("pareto")
    lines = [
        "| latency | strategy | searched, of the space (of the front) | tabulated accuracy of the "
        "returned front | architectures on it |",
        "|---|---|---|---|---|",
    ]
    for found in result["results"]:
        for strategy in dict.fromkeys(row["strategy"] for row in found["rows"]):
            rows = [row for row in found["rows"] if row["strategy"] == strategy]
            cells = [
                f"{share(rows, truth, 'space')} ({share(rows, truth, 'front')})"
                for truth in ("searched", "tabulated")
            ]
            sizes = [row["front"] for row in rows]
            lines.append(
                f"| {found['column']} | {strategy} | {' | '.join(cells)} | "
                f"{min(sizes)} to {max(sizes)} |"
            )
    seeds = len({row["seed"] for row in result["results"][0]["rows"]})
    note = f"{result['budget']:,} architectures, {seeds} seeds: mean, then the worst."
    return "\n".join([*lines, "", f"{note} {where(result['environment'])}"])


def share(rows: list[dict[str, Any]], truth: str, reference: str) -> str:
    """Return mean and least of a share, in percent."""
    values = [100 * row[truth][reference] for row in rows]
    return f"{sum(values) / len(values):.2f} %, {min(values):.2f}"


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


def proxies() -> str:
    """Return the table of all proxies on one sample, best first by CIFAR-10."""
    c10, c100, in16 = load("proxies")["reports"][:3]
    lines = [
        "| proxy | C10 Spearman [95 %] | C100 | IN16 | Kendall C10 / C100 / IN16 | nDCG@10 | "
        "regret@1 | regret@10 | failed | ms | route |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    order = sorted(
        range(len(c10["rows"])), key=lambda i: c10["rows"][i]["spearman"] or -1.0, reverse=True
    )
    for i in order:
        a, b, c = (report["rows"][i] for report in (c10, c100, in16))
        kendall = " / ".join(short(row["kendall"]) for row in (a, b, c))
        lines.append(
            f"| `{a['proxy']}` | {interval(a, 'spearman')} | {interval(b, 'spearman')} | "
            f"{interval(c, 'spearman')} | {kendall} | {short(a['ndcg'])} | {a['regret_1']:.2f} | "
            f"{a['regret_10']:.2f} | {a['failures']} | {1000 * a['seconds_per_arch']:.3g} | "
            f"{a['route']} |"
        )
    return "\n".join([*lines, "", where(c10["environment"])])


def short(value: float) -> str:
    """Return ``.933`` or ``-.102``."""
    return f"{value:.3f}".replace("0.", ".", 1)


def published() -> str:
    """Return the comparison with NAS-Bench-Suite-Zero's values."""
    lines = [
        "| proxy | ours with theirs [95 %] | theirs: C10 with IN16 | accuracy: ours | theirs | "
        "published |",
        "|---|---|---|---|---|---|",
    ]
    for row in load("proxies")["published"]:
        low, high = row["agreement_interval"]
        paper = "" if row["accuracy_paper"] is None else short(row["accuracy_paper"])
        lines.append(
            f"| `{row['proxy']}` | {short(row['agreement'])} [{short(low)}, {short(high)}] | "
            f"{short(row['theirs_c10_in16'])} | {short(row['accuracy_ours'])} | "
            f"{short(row['accuracy_theirs'])} | {paper} |"
        )
    return "\n".join(lines)


def together() -> str:
    """Return the table of `together.py`."""
    result = load("together")
    lines = ["| proxy | times one training step, median (min to max) | route |", "|---|---|---|"]
    for row in sorted(result["rows"], key=lambda row: row["median"]):
        low, high = min(row["ratios"]), max(row["ratios"])
        name = row["what"] if " " in row["what"] else f"`{row['what']}`"
        lines.append(f"| {name} | {row['median']:.3g} ({low:.3g} to {high:.3g}) | {row['route']} |")
    step = 1000 * sorted(result["step_seconds"])[len(result["step_seconds"]) // 2]
    note = (
        f"One step is {step:.0f} ms; {result['sample']} networks, minibatch "
        f"{result['minibatch']}, {result['rounds']} rounds. The thirteen one after the other: "
        f"{result['apart']:.1f}."
    )
    return "\n".join([*lines, "", f"{note} {where(result['environment'])}"])


def shared_weights() -> str:
    """Return the table of `shared_weights.py`."""
    result = load("shared_weights")
    lines = ["| truth | n | shared | independent | difference [95 %] |", "|---|---|---|---|---|"]
    for row in result["rows"]:
        value, low, high = row["difference"]
        lines.append(
            f"| {row['truth']} | {row['n']:,} | {row['shared']:.3f} | {row['independent']:.3f} | "
            f"{value:+.4f} [{low:+.4f}, {high:+.4f}] |"
        )
    return "\n".join([*lines, "", where(result["environment"])])


def zero_shot(name: str) -> str:
    """Return the table of `zero_shot.py` for one benchmark table."""
    result = load("zero_shot")
    found = result[name]
    digits = 2 if max(found["best"]) > 1 else 4  # percent, or a fraction
    columns = " / ".join(found["columns"])
    lines = [
        f"| {columns} | first pick, mean (worst) | best of the first ten | Kendall |",
        "|---|---|---|---|",
    ]
    for rule, row in found["rules"].items():
        first, ten, tau = row["first"], row["first_ten"], row["kendall"]
        lines.append(
            f"| `{rule}` | {several(first['mean'], digits)} ({several(first['worst'], digits)}) | "
            f"{several(ten['mean'], digits)} | "
            f"{' / '.join(map(short, tau['mean']))} (sd {max(tau['std']):.3f}) |"
        )
    low, high = found["seeds"]
    note = (
        f"{found['rows']:,} rows, {found['functions']:,} functions, seeds {low} to {high}; best "
        f"possible {several(found['best'], digits)}."
    )
    return "\n".join([*lines, "", f"{note} {where(result['environment'])}"])


def several(values: list[float], digits: int) -> str:
    """Return ``94.31 / 73.32``."""
    return " / ".join(f"{value:.{digits}f}" for value in values)


def bands() -> str:
    """Return how norm growth ranks cells that the other members place alike."""
    found = load("zero_shot")["nats_tss"]
    lines = [
        "| place by the other three | cells | norm growth: Kendall C10 / C100 / IN16 | "
        "the other three |",
        "|---|---|---|---|",
    ]
    for row in found["bands_first_seed"]:
        low, high = row["band"]
        growth, others = (" / ".join(map(short, row[key])) for key in ("norm growth", "the others"))
        lines.append(f"| {low:.2f} to {high:.2f} | {row['n']:,} | {growth} | {others} |")
    return "\n".join(lines)


def predictor() -> str:
    """Return the table of `predictor.py`."""
    result = load("predictor")
    lines = [
        "| case | n | Kendall C10 / C100 / IN16 | twins on both sides | same cells as drawn | "
        "MAE, points | Kendall, best tenth | Kendall, stratified test | "
        "90 % interval holds, % (fifths by prediction) | "
        "found cell below the best, points (within the aim) |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    keys = dict.fromkeys((row["recipe"], row["n"]) for row in result["rows"])
    order = ["tss_accuracy", "spread", "active", "green_factory"]
    for recipe, n in sorted(keys, key=lambda key: (order.index(key[0]), key[1])):
        rows = [row for row in result["rows"] if (row["recipe"], row["n"]) == (recipe, n)]
        widest = max(std(of(row, "random", "kendall")) for row in rows)

        def taus(kind: str, key: str = "kendall", rows: list[Any] = rows) -> str:
            return " / ".join(short(mean(of(row, kind, key))) for row in rows)

        covered = [
            mean([100 * seed["random"]["coverage"]["overall"] for seed in row["seeds"]])
            for row in rows
        ]
        fifths = [
            100 * mean(list(held))
            for row in rows
            for held in zip(
                *(seed["random"]["coverage"]["by_fifth"] for seed in row["seeds"]), strict=True
            )
        ]
        below = [[seed["found"] for seed in row["seeds"]] for row in rows]
        aim = 0.4 if n < 1024 else 0.1
        within = " / ".join(str(sum(x <= aim for x in seeds)) for seeds in below)
        lines.append(
            f"| `{recipe}` | {n:,} | {taus('random')} (sd {widest:.3f}) | {taus('twins')} | "
            f"{taus('common') if 'common' in rows[0]['seeds'][0] else 'the same'} | "
            f"{several([mean(of(row, 'random', 'mae')) for row in rows], 2)} | "
            f"{taus('random', 'kendall_best_tenth')} | {taus('stratified')} | "
            f"{several(covered, 0)} ({min(fifths):.0f} to {max(fifths):.0f}) | "
            f"{several([mean(x) for x in below], 2)} ({within}) |"
        )
    return "\n".join([*lines, "", where(result["environment"])])


def ceiling() -> str:
    """Return the table of `ceiling.py`."""
    result = load("ceiling")
    lines = [
        "| column | from twins: n = 64 / 256 / 1,024 / 4,000 | from a second column | "
        "reached with 4,000 |",
        "|---|---|---|---|",
    ]
    for row in result["rows"]:
        twins = " / ".join(short(value) for value in row["twins"].values())
        lines.append(
            f"| `{row['column']}` | {twins} | {short(row['second'])} (`{row['by']}`) | "
            f"{short(row['reached'])} |"
        )
    return "\n".join([*lines, "", where(result["environment"])])


def of(row: dict[str, Any], kind: str, key: str) -> list[float]:
    """Return one figure of all seeds."""
    return [seed[kind][key] for seed in row["seeds"]]


def mean(values: list[float]) -> float:
    """Return the mean."""
    return sum(values) / len(values)


def std(values: list[float]) -> float:
    """Return the standard deviation of a sample."""
    middle = mean(values)
    return float((sum((x - middle) ** 2 for x in values) / max(1, len(values) - 1)) ** 0.5)


def designed() -> str:
    """Return the formulas and the proxies beside them on the rows of the reports."""
    result = load("design")
    lines = [
        "| proxy | Kendall C10 / C100 / IN16, random cells | stratified cells |",
        "|---|---|---|",
    ]
    found = result["held_out"]
    for proxy in dict.fromkeys(row["proxy"] for row in found):
        cells = []
        for kind in ("random", "stratified"):
            by_column = [
                [row[kind] for row in found if (row["proxy"], row["column"]) == (proxy, column)]
                for column in dict.fromkeys(row["column"] for row in found)
            ]
            spread = max(map(std, by_column))
            means = " / ".join(short(mean(taus)) for taus in by_column)
            cells.append(f"{means} (sd {spread:.3f})")
        lines.append(f"| `{proxy}` | {' | '.join(cells)} |")
    rows = [row for row in found if row["proxy"] == "formula"]
    counts = [
        f"{min(r[k] for r in rows):,} to {max(r[k] for r in rows):,}" for k in ("n", "n_stratified")
    ]
    lines += [
        "",
        f"Mean of {len(result['designs'])} designs, each on its own {counts[0]} random and "
        f"{counts[1]} stratified rows.",
    ]
    return "\n".join([*lines, where(result["environment"])])


def designed_published() -> str:
    """Return the formulas beside published proxy values of the same rows."""
    found = load("design")["published"]
    lines = ["| proxy | Kendall C10 / C100 / IN16 |", "|---|---|"]
    columns = list(dict.fromkeys(row["column"] for row in found))
    table = {
        proxy: [
            mean([r["tau"] for r in found if (r["proxy"], r["column"]) == (proxy, column)])
            for column in columns
        ]
        for proxy in dict.fromkeys(row["proxy"] for row in found)
    }
    for proxy, taus in sorted(table.items(), key=lambda item: -item[1][0]):
        lines.append(f"| `{proxy}` | {' / '.join(map(short, taus))} |")
    counts = sorted({row["n"] for row in found})
    lines += ["", f"{counts[0]:,} to {counts[-1]:,} rows, mean of the same five reports."]
    return "\n".join(lines)


def designed_transfer() -> str:
    """Return the formulas beside other proxies in other spaces."""
    found = load("design")["transfer"]
    columns = list(dict.fromkeys(row["column"] for row in found))
    lines = ["| proxy | " + " | ".join(f"`{column}`" for column in columns) + " |"]
    lines.append("|---" * (len(columns) + 1) + "|")
    proxies = list(dict.fromkeys(row["proxy"] for row in found))
    formulas = [proxy for proxy in proxies if proxy.startswith("formula")]
    taus = {(row["proxy"], row["column"]): row["kendall"] for row in found}
    cells = []
    for c in columns:
        some = [taus[formula, c] for formula in formulas]
        cells.append(f"{short(mean(some))} ({short(min(some))} to {short(max(some))})")
    lines.append(f"| formulas of {len(formulas)} seeds, mean (range) | {' | '.join(cells)} |")
    for proxy in proxies:
        cells = [short(taus[proxy, c]) if (proxy, c) in taus else "" for c in columns]
        lines.append(f"| `{proxy}` | {' | '.join(cells)} |")
    counts = {row["column"]: row["n"] for row in found}
    lines += ["", "Rows: " + ", ".join(f"{n:,} `{c}`" for c, n in counts.items()) + "."]
    return "\n".join(lines)


def designs() -> str:
    """Return the formulas themselves, and what they took."""
    result = load("design")
    lines = [
        "| seed | formula | validation | first pick C10 / C100 / IN16 | formulas | evolution, s |",
        "|---|---|---|---|---|---|",
    ]
    for design, first in zip(result["designs"], result["first"], strict=True):
        lines.append(
            f"| {design['seed']} | `{design['formula']}` | {short(design['validation'])} | "
            f"{several(first['first'], 2)} | {design['proposed']:,} | "
            f"{design['evolution_seconds']:.0f} |"
        )
    return "\n".join(lines)


def atoms() -> str:
    """Return what a formula may read."""
    lines = ["| role | what | atoms |", "|---|---|---|"]
    for role in ROLES.values():
        shared = role.atoms is ROLES["relu"].atoms and role.name != "relu"
        known = {atom.name for atom in ROLES["relu"].atoms}
        own = [atom for atom in role.atoms if role.name == "relu" or atom.name not in known]
        told = "; ".join(f"`{atom.name}` {atom.summary}" for atom in own)
        more = "all of `relu`" + ("; " if own else "") if role.name in ("conv", "block") else ""
        lines.append(f"| `{role.name}` | {role.summary} | {more}{'' if shared else told} |")
    return "\n".join(lines).replace("|P|", "\\|P\\|")


def design_speed() -> str:
    """Return formulas per second."""
    result = load("design_speed")
    lines = ["| truths | formulas per second |", "|---|---|"]
    for row in result["rows"]:
        rates = row["per_second"]
        lines.append(
            f"| {row['columns']} | {mean(rates):,.0f} ({min(rates):,.0f} to {max(rates):,.0f}) |"
        )
    told = f"{result['architectures']} architectures, {result['workers']} processes."
    return "\n".join([*lines, "", told, where(result["environment"])])


def loader() -> str:
    """Return what loading costs beside a step, by device."""
    lines = [
        "| device | precision | loader ms | step ms | share, median (min to max) | bar |",
        "|---|---|---|---|---|---|",
    ]
    notes = []
    for path in sorted(RESULTS.glob("loader*.json")):
        result = load(path.stem)
        share, place = result["share_percent"], result["environment"]
        layout = ", channels last" if result["channels_last"] else ""
        lines.append(
            f"| {place['device_name']} | {result['dtype']}{layout} | "
            f"{result['loader_ms']['median']:.2f} | {result['step_ms']['median']:,.1f} | "
            f"{share['median']:.2f} % ({share['low']:.2f} to {share['high']:.2f}, "
            f"n = {result['n']}) | < 5 % |"
        )
        notes.append(where(place))
    return "\n".join([*lines, "", *notes])


def reproduced() -> str:
    """Return trained accuracies beside tabulated ones."""
    result = load("reproduce")
    told = result["cells"]
    lines = ["| cell | parameters | trained here, % | `c10_test_12`, % |", "|---|---|---|---|"]
    for row in told["cells"]:
        arch = row["arch"].replace("|", "\\|")
        lines.append(
            f"| `{arch}` | {row['params']:,} | {row['accuracy']:.2f} | {row['truth']:.2f} |"
        )
    held = told["agreement"]
    lines += [
        "",
        f"{told['images']:,} training images, {told['epochs']} epochs, one seed: Kendall "
        f"{held['kendall']:.2f} [{held['low']:.2f}, {held['high']:.2f}], n = {held['n']}.",
    ]
    return "\n".join([*lines, where(result["environment"])])


def degenerate() -> str:
    """Return the table of `degenerate.py`."""
    result = load("degenerate")
    lines = ["| input | scores | reasons | which |", "|---|---|---|---|"]
    for row in result["rows"]:
        answers = [(name, one) for name, found in row["answers"].items() for one in found]
        scored = [name for name, one in answers if not isinstance(one, str)]
        failed = [name for name, one in answers if isinstance(one, str)]
        few, word = (scored, "only") if len(scored) < len(failed) else (failed, "all but")
        names = ", ".join(f"`{name}`" for name in dict.fromkeys(few))
        which = f"{word} {names}" if few else {"only": "none", "all but": "all"}[word]
        lines.append(f"| {row['case']} | {len(scored)} | {len(failed)} | {which} |")
    return "\n".join([*lines, "", where(result["environment"])])


def jpeg() -> str:
    """Return what JPEG costs."""
    told = load("reproduce")["jpeg"]
    lines = ["| trained on | tested on exact images, % | on JPEG, % |", "|---|---|---|"]
    for name, row in told.items():
        own = row["cells"][0]["accuracy"]
        exact, lossy = (own, row["others"]) if name == "exact" else (row["others"], own)
        lines.append(f"| {name} | {exact:.2f} | {lossy:.2f} |")
    row = told["exact"]
    lines += ["", f"{row['images']:,} training and 1,017 test images, {row['epochs']} epochs."]
    return "\n".join(lines)


def fast() -> str:
    """Return `train_fast` beside `train_nats_12`."""
    told = load("reproduce")["fast"]
    lines = ["| recipe | epochs | test accuracy, % | seconds |", "|---|---|---|---|"]
    for name, row in told.items():
        cell = row["cells"][0]
        lines.append(
            f"| `{name}` | {row['epochs']} | {cell['accuracy']:.2f} | {row['seconds']:,.0f} |"
        )
    return "\n".join([*lines, "", f"{row['images']:,} training images."])


def scale() -> str:
    """Return the tables of `scale.py`."""
    found = load("scale")
    lines = ["| who works | candidates a second | same trials as one process |", "|---|---|---|"]
    for row in found["local"]:
        who = f"{row['workers']} worker processes" if row["workers"] else "this process"
        lines.append(f"| {who} | {row['per_second']:.0f} | {'yes' if row['same'] else 'NO'} |")
    for row in found["cluster"]:
        killed = row["killed_after"]
        who = "Ray, three nodes of one processor on this machine"
        who += "" if killed is None else f", one killed after {killed:,} candidates"
        lines.append(f"| {who} | {row['per_second']:.0f} | {'yes' if row['same'] else 'NO'} |")
    lines += ["", "| coordinator alone, DARTS | candidates a second, median (slowest tenth) |"]
    lines[-1] += " memory, MB, after each tenth |"
    lines.append("|---|---|---|")
    for row in found["coordinator"]:
        memory = ", ".join(f"{mark['megabytes']:.0f}" for mark in row["marks"])
        lines.append(
            f"| {row['strategy']}, {row['trials']:,} trials, batches of {row['batch']:,}, "
            f"cache in {'a file' if row['cache'] == 'file' else 'memory'} | "
            f"{row['per_second']:,.0f} ({row['slowest']:,.0f}) | {memory} |"
        )
    lines += ["", "| a chunk that costs nothing | chunks a second | coordinator, us a chunk |"]
    lines.append("|---|---|---|")
    for row in found["dispatch"]:
        lines.append(
            f"| {row['executor']} | {row['chunks_per_second']:,.0f} | "
            f"{row['coordinator_us_per_chunk']:.0f} |"
        )
    lines += ["", "| simulated | workers | candidates a second | coordinator busy | 10^9 take |"]
    lines.append("|---|---|---|---|---|")
    for row in found["simulation"]:
        lines.append(
            f"| {row['executor']} | {row['workers']:,} | {row['per_second']:,.0f} | "
            f"{100 * row['coordinator_busy']:.0f} % | {row['hours_for_1e9']:,.0f} h |"
        )
    return "\n".join([*lines, "", where(found["environment"])])


def others_naslib() -> str:
    """Return NASLib's measures beside ours."""
    found = load("others")["naslib"]
    lines = [
        "| measure | NASLib, ms a cell | ours one by one | ours as shipped | "
        "Spearman, ours [95 %] | NASLib's | Kendall, ours | NASLib's | between the two | same |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in found["rows"]:
        ours, theirs, both = row["ours"], row["theirs"], row["both"]
        lines.append(
            f"| `{row['measure']}` | {row['naslib_ms']:.3g} | {times(row['alone'])} | "
            f"{times(row['shipped'])} | {interval(ours, 'spearman')} | {theirs['spearman']:.3f} | "
            f"{ours['kendall']:.3f} | {theirs['kendall']:.3f} | {both['spearman']:.3f} | "
            f"{100 * both['same_to_a_thousandth']:.0f} % |"
        )
    lines.append(f"| all of these together | | | {times(found['together'])} | | | | | | |")
    lines += ["", "| only ours | ms a cell | Spearman [95 %] | Kendall |", "|---|---|---|---|"]
    for row in found["ours_only"]:
        lines.append(
            f"| `{row['measure']}` | {row['ms']:.3g} | {interval(row['ours'], 'spearman')} | "
            f"{row['ours']['kendall']:.3f} |"
        )
    ours, theirs = (max(row[who]["failed"] for row in found["rows"]) for who in ("ours", "theirs"))
    lines += [
        "",
        f"{found['cells']} cells in {found['rounds']} rounds, minibatch {found['minibatch']}, "
        f"truth `{found['truth']}`; most failures of a measure: ours {ours}, NASLib's {theirs}. "
        f"{where(found['environment'])}",
    ]
    return "\n".join(lines)


def times(ratio: dict[str, float]) -> str:
    """Return ``2.1x (1.9 to 2.3)``."""
    return f"{ratio['median']:.3g}x ({ratio['min']:.3g} to {ratio['max']:.3g})"


def others_archai() -> str:
    """Return Archai's evolution beside ours."""
    found = load("others")["archai"]
    lines = [
        "| candidates | Archai, us each | ours, one at a time | ours, batches of 32 | "
        "Archai / ours, one at a time | Archai / ours, batches |",
        "|---|---|---|---|---|---|",
    ]
    for row in found["rows"]:
        costs = [
            f"{row[key]['median']:,.0f} ({row[key]['min']:,.0f} to {row[key]['max']:,.0f})"
            for key in ("archai_us", "ours_us", "ours_batched_us")
        ]
        lines.append(
            f"| {row['evaluated']:,.0f} | {' | '.join(costs)} | {times(row['ratio'])} | "
            f"{times(row['ratio_batched'])} |"
        )
    about = f"Archai {found['archai']}, {found['runs']} searches of each length."
    return "\n".join([*lines, "", f"{about} {where(found['environment'])}"])


def fuzz() -> str:
    """Return how long every fuzz target ran."""
    found = load("fuzz")
    lines = ["| target | minutes | executions | runs that found a crash |", "|---|---|---|---|"]
    for row in found["rows"]:
        lines.append(
            f"| `{row['target']}` | {row['minutes']:.0f} | {row['executions']:,} | "
            f"{row['crashes']} |"
        )
    return "\n".join([*lines, "", f"{found['note'].capitalize()}."])


TABLES = {
    "scale": scale,
    "fuzz": fuzz,
    "reproduced": reproduced,
    "jpeg": jpeg,
    "degenerate": degenerate,
    "fast": fast,
    "loader": loader,
    "designed": designed,
    "designed-published": designed_published,
    "designed-transfer": designed_transfer,
    "designs": designs,
    "design-speed": design_speed,
    "atoms": atoms,
    "predictor": predictor,
    "ceiling": ceiling,
    "zero-shot-tss": lambda: zero_shot("nats_tss"),
    "zero-shot-transnas": lambda: zero_shot("transnas_micro"),
    "zero-shot-nb101": lambda: zero_shot("nasbench101"),
    "zero-shot-bands": bands,
    "tss": lambda: ranks("tss"),
    "reference": lambda: ranks("tss_reference"),
    "choice-even": lambda: choice("even"),
    "choice-odd": lambda: choice("odd"),
    "image": lambda: ranks("tss_image_c10"),
    "other": lambda: ranks("transnas", "nb101"),
    "proxies": proxies,
    "published": published,
    "together": together,
    "others-naslib": others_naslib,
    "others-archai": others_archai,
    "shared-weights": shared_weights,
    "speed": speed,
    "overhead": overhead,
    "limits": limits,
    "speed-darts": lambda: speed("speed_darts"),
    "speed-macro": lambda: speed("speed_macro"),
    "pareto": pareto,
    "lookup": lookup,
}


def main() -> None:
    """Rewrite the tables of the pages."""
    for page in ("README.md", "formulas.md"):
        text = (HERE / page).read_text()
        for name, make in TABLES.items():
            pattern = rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)"
            if re.search(pattern, text, re.DOTALL):
                made = f"<!-- {name} -->\n{make()}\n<!-- /{name} -->".replace("\\", r"\\")
                text = re.sub(pattern, made, text, flags=re.DOTALL)
        (HERE / page).write_text(text)


if __name__ == "__main__":
    main()

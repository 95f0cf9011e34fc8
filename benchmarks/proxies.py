"""Every proxy on one sample, and beside published values: ``python benchmarks/proxies.py DATA``.

DATA holds nats_tss.csv.gz, nats_tss_zc.csv.gz (published proxy values) and
cifar10_lossless_subset.npz (images with labels). The rows are drawn from the 9,445 cells for which
NAS-Bench-Suite-Zero published values (https://arxiv.org/abs/2210.03230): those without unreachable
operations. All proxies are scored in one go, as ``nas rank`` does it; what is compared is

- their order with test accuracies, as ``nas rank`` writes it (CSV and figure, too);
- our values with the published ones of the same cells, by Spearman's correlation. Both are single
  draws of weights and images, so beside it stands how well the published values of CIFAR-10 agree
  with those of ImageNet16-120: no one can be expected to agree better;
- Spearman's correlation of ours and of theirs with the validation accuracy of these rows.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nas.benchmark import read_table
from nas.benchmark.table import Truth
from nas.proxies import PROXIES, Conditions
from nas.rank import RankReport, for_json, plot, rank_proxies, to_csv
from nas.statistics import evaluate
from spaces import SPACES

RESULTS = Path(__file__).parent / "results"
SPACE = SPACES["nats_tss"]
TRUTHS = ("c10_test_200", "c100_test_200", "in16_test_200", "c10_val_200")
JOINS = {
    "az_nas": ["az_expressivity", "az_progressivity", "az_trainability", "flops"],
    "te_nas": ["ntk", "linear_regions"],
}
#: Published for all 9,445 cells and CIFAR-10, against validation accuracy.
PAPER = {
    "jacov": 0.818, "nwot": 0.792, "epe_nas": 0.787, "params": 0.747, "synflow": 0.732,
    "l2_norm": 0.720, "snip": 0.552, "grad_norm": 0.550, "fisher": 0.501, "grasp": 0.491,
    "zen": 0.101, "plain": -0.367, "flops": None,
}  # fmt: skip


def of_rows(truth: Truth, report: RankReport) -> NDArray[np.float64]:
    """Return the values of a truth for the ranked rows."""
    return np.asarray([truth.value(arch) for arch in report.archs], dtype=np.float64)


def main() -> None:
    """Measure, print, and write JSON, CSV and a figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--sample", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=1, help="draws of weights and images")
    parser.add_argument("--only", default=",".join(PROXIES), help="names of proxies")
    parser.add_argument("--name", default="proxies", help="of the results")
    args = parser.parse_args()
    published = read_table(args.data / "nats_tss_zc.csv.gz", SPACE)
    theirs = {name: published.truth(f"nbsz_c10_{name}") for name in PAPER}
    again = {name: published.truth(f"nbsz_in16_{name}") for name in PAPER}
    known = set(theirs["jacov"].archs)
    table = read_table(args.data / "nats_tss.csv.gz", SPACE)
    truths = [_among(table.truth(column), known) for column in TRUTHS]
    names = args.only.split(",")
    reports = rank_proxies(
        SPACE,
        names,
        truths,
        sample=args.sample,
        seed=args.seed,
        conditions=Conditions(
            seed=args.seed,
            repeats=args.repeats,
            images=str(args.data / "cifar10_lossless_subset.npz"),
        ),
        joins=JOINS if set(PROXIES) == set(names) else {},
        progress=_tell,
    )
    compared = []
    for name in PAPER:
        if name not in names:
            continue
        row = reports[-1].row(name)
        values = of_rows(theirs[name], reports[-1])
        agreement = evaluate(row.scores, values, seed=args.seed)["spearman"]
        known_again = evaluate(of_rows(again[name], reports[-1]), values, n_boot=0)["spearman"]
        accuracy = evaluate(values, reports[-1].values, n_boot=0)["spearman"]
        compared.append(
            {
                "proxy": name,
                "agreement": agreement.value,
                "agreement_interval": [agreement.low, agreement.high],
                "theirs_c10_in16": known_again.value,
                "accuracy_ours": row.estimates["spearman"].value,
                "accuracy_theirs": accuracy.value,
                "accuracy_paper": PAPER[name],
            }
        )
        sys.stdout.write(f"{compared[-1]}\n")
    content = {"reports": for_json(reports), "published": compared, "repeats": args.repeats}
    text = json.dumps(content, indent=1)
    for path, name in ((f"{args.data}/", ""), (str(args.data), "DATA")):  # no path of this machine
        text = text.replace(path, name)
    (RESULTS / f"{args.name}.json").write_text(text + "\n")
    if args.name == "proxies":
        (RESULTS / "proxies.csv").write_text(to_csv(reports[:3]))
        plot(reports[:3], RESULTS / "proxies.png")


def _tell(proxies: int, done: int, total: int) -> None:
    sys.stderr.write(f"{proxies} proxies: {done} of {total} cells\n")


def _among(truth: Truth, known: set[tuple[int, ...]]) -> Truth:
    """Return the rows of a truth whose architecture is known elsewhere, too."""
    keep = [i for i, arch in enumerate(truth.archs) if arch in known]
    return dataclasses.replace(
        truth, archs=tuple(truth.archs[i] for i in keep), values=truth.values[keep]
    )


if __name__ == "__main__":
    main()

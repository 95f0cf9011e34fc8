"""A table that names DARTS architectures as published is ranked as it is."""

import csv
import json
from pathlib import Path

import numpy as np
from typer.testing import CliRunner

from nas.benchmark import read_table
from nas.cli import app
from spaces import DARTS


def test_a_column_of_genotypes_is_ranked(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    archs = [DARTS.sample(rng) for _ in range(12)]
    params = DARTS.costs(np.asarray(archs)).params
    path = tmp_path / "darts.csv"
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["genotype", "accuracy"])
        for arch, size in zip(archs, params, strict=True):
            text = DARTS.to_str(arch).replace("[2, 3, 4, 5]", "range(2, 6)")
            rows.writerow([text, 90 + size / 1e6])
    assert list(read_table(path, DARTS).archs) == archs
    words = ["rank", "--space", "darts", "--proxy", "params,sed", "--truth", f"{path}:accuracy"]
    done = CliRunner().invoke(app, [*words, "--quiet", "--json", "-"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    found = {row["proxy"]: row["spearman"] for row in told["rows"]}
    assert found["params"] == 1.0
    assert abs(found["sed"]) < 1.0

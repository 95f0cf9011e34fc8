"""A formula's file, and the proxy that scores by it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import nas
from nas.design.atoms import PASSES
from nas.design.formula import (
    BadFormulaFile,
    Formula,
    parse_formula,
    read_formula,
    remembered,
    resolve,
    shipped_formulas,
)
from nas.oracle import Oracle
from nas.proxies import Conditions, ProxyError, ProxySpec, score_batch
from nas.proxies.base import ProxyOptionError
from nas.store import Store
from spaces import SPACES
from spaces.nats_tss import NATS_TSS

SMALL = Conditions(num_classes=3, resolution=8, dtype="float64")
ARCHS = [(3, 3, 3, 3, 3, 3), (1, 2, 3, 4, 1, 3)]


def write(folder: Path, text: str, name: str = "mine") -> str:
    path = folder / f"{name}.yaml"
    path.write_text(f"formula: {text}\n")
    return str(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "x.yaml: expected a mapping with the key 'formula'"),
        ("- a", "x.yaml: expected a mapping with the key 'formula'"),
        ("name: a", "x.yaml: formula: required, but missing"),
        ("name: a\nformula: mean(rms[rel])", "x.yaml:2: formula: no role named 'rel'. Did you"),
        ("formula: 3", "x.yaml:1: formula: input should be a valid string"),
        ("formula: mean(rms[relu])\nnmae: b", "x.yaml:2: nmae: unknown key; did you mean 'name'?"),
        ("formula: mean(rms[relu])\nformula: a", "x.yaml:2: formula: duplicate key"),
        ("formula: mean(rms[relu])\nprovenance: {sed: 1}", "x.yaml:2: provenance.sed: unknown key"),
        ("formula: !!python/object:os.system a", "the tag"),
        ("formula: [", "not valid YAML"),
        (f"name: {'n' * 70}\nformula: mean(rms[relu])", "x.yaml:1: name: string should have at"),
    ],
)
def test_faults_of_a_file_are_told_by_line(text: str, message: str) -> None:
    with pytest.raises(BadFormulaFile) as caught:
        parse_formula(text, "x.yaml")
    assert message in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(BadFormulaFile, match="cannot read"):
        read_formula(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"name: \xe9")
    with pytest.raises(BadFormulaFile, match="expected UTF-8 text"):
        read_formula(tmp_path / "latin.yaml")
    with pytest.raises(BadFormulaFile, match=r"no such file, and no formula of this name.*Known: "):
        resolve("absent")


def test_a_formula_is_written_as_it_is_read() -> None:
    formula = parse_formula("formula: ' mean( rms[relu]  )*2 '", "x.yaml", name="x")
    assert formula == Formula(name="x", formula="mean(rms[relu]) * 2")
    assert parse_formula(formula.to_yaml(), "x.yaml") == formula
    assert formula.passes == {"image"}


def test_the_shorthand_and_the_option_are_one() -> None:
    named = ProxySpec.parse("formula:a/b.yaml")
    assert named == ProxySpec.parse("formula:file=a/b.yaml")
    assert str(named) == "formula:file=a/b.yaml"
    assert ProxySpec.parse(str(named)) == named
    for text in ("meco:a.yaml", "formula:", "formula:a.yaml,b.yaml"):
        with pytest.raises(ProxyOptionError, match="cannot read"):
            ProxySpec.parse(text)


@pytest.mark.parametrize(
    ("text", "reads", "route"),
    [
        ("mean(rms[relu])", {"images"}, "batched"),
        ("mean(gain[flow])", set(), "batched"),
        ("mean(log_count[weight])", set(), "batched"),
        ("mean(gain[slope])", {"images", "gradients"}, "batched"),
        ("mean(gain[slope]) + mean(gain[flow])", {"images", "gradients"}, "batched"),
    ],
)
def test_it_reads_what_the_formula_names(
    tmp_path: Path, text: str, reads: set[str], route: str
) -> None:
    spec = ProxySpec.parse(f"formula:{write(tmp_path, text)}")
    assert spec.reads == reads
    assert spec.route(NATS_TSS) == route
    assert spec.route(SPACES["nats_sss"]) == "one by one"
    forwards = "gradients" not in reads
    assert spec.proxy.forwards(spec.options) == forwards
    assert (spec.gain(NATS_TSS) > 1) == forwards


def test_a_score_is_the_value_of_the_formula_by_hand(tmp_path: Path) -> None:
    # Three blocks, each doubling what it is given: ln 2 each; and one ReLU of positive numbers.
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inside = nn.Identity()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            inside: torch.Tensor = self.inside(x)
            return inside * 2

    net = nn.Sequential(Twice(), Twice(), Twice(), nn.ReLU(), nn.Flatten()).double()
    net.register_parameter("unused", nn.Parameter(torch.zeros(1, dtype=torch.float64)))
    specs = {
        name: f"formula:{write(tmp_path, text, name)}"
        for name, text in (
            ("sum", "2 * sum(growth[block]) + sum(one[relu]) / 2"),
            ("slope", "sum(gain[slope])"),
            ("flow", "mean(gain[flow])"),
            ("weight", "sum(one[weight])"),
        )
    }
    found = nas.score(net, (3, 4, 4), list(specs.values()))
    by_name = {name: found[text] for name, text in specs.items()}
    assert by_name["sum"] == pytest.approx(6 * np.log(2) + 0.5, rel=1e-5)
    assert by_name["slope"] == pytest.approx(2 * np.log(2), rel=1e-9)
    assert by_name["flow"] == pytest.approx(np.log(2), rel=1e-9)
    assert isinstance(by_name["weight"], ProxyError)
    assert "places that the network does not have" in str(by_name["weight"])


def test_a_formula_is_not_taken_for_another_of_that_name(tmp_path: Path) -> None:
    spec = f"formula:{write(tmp_path, 'mean(rms[relu])')}"
    with Store(tmp_path / "scores.sqlite") as store:
        remembered.cache_clear()
        first = Oracle(NATS_TSS, spec, conditions=SMALL, cache=store).score(ARCHS[:1])
        remembered.cache_clear()
        write(tmp_path, "mean(std[relu])")
        second = Oracle(NATS_TSS, spec, conditions=SMALL, cache=store).score(ARCHS[:1])
    assert first != second
    assert not second[0].cached


def test_the_cell_without_a_path_fails(tmp_path: Path) -> None:
    dead = (0,) * 6
    for text in ("mean(rms[relu])", "mean(gain[flow])", "mean(log_gradient[layer])"):
        spec = ProxySpec.parse(f"formula:{write(tmp_path, text, str(len(text)))}")
        alive, none = score_batch(NATS_TSS, [spec], [ARCHS[0], dead], SMALL)[0]
        assert isinstance(alive, float)
        assert isinstance(none, ProxyError)
        assert "nothing of the image reaches the logits" in str(none)


def test_the_score_is_that_of_the_statistics(tmp_path: Path) -> None:
    # What evolution evaluates is what the proxy computes, under the same draw.
    from nas.design.expression import evaluate
    from nas.design.measure import measure_population

    text = "sum(min_eigenvalue[relu]) + mean(gain[flow]) - max(log_gradient[layer])"
    spec = ProxySpec.parse(f"formula:{write(tmp_path, text)}")
    forms = [NATS_TSS.canonical(arch) for arch in ARCHS]
    scores = score_batch(NATS_TSS, [spec], forms, SMALL)[0]
    node = remembered(spec.options.file).node
    expected = evaluate(node, measure_population(NATS_TSS, forms, SMALL, node.wanted))
    assert scores == pytest.approx(expected.tolist(), rel=1e-9)


@pytest.mark.parametrize("path", shipped_formulas().values(), ids=shipped_formulas())
def test_shipped(path: Path) -> None:
    formula = read_formula(path)
    assert formula.name == path.stem
    assert 20 <= len(formula.summary) <= 90
    about = formula.provenance
    assert about is not None
    assert formula.formula in [candidate.formula for candidate in about.front]
    assert formula.passes <= set(PASSES)
    assert len(about.held_out) == 6
    for figure in about.held_out:
        assert figure.kendall > 0.7
        assert figure.n > 400
    text = path.read_text(encoding="utf-8")
    assert "/home" not in text
    assert "/tmp" not in text
    good, poor = score_batch(
        NATS_TSS, [ProxySpec.parse(f"formula:{path.stem}")], [(3,) * 6, (0, 0, 0, 4, 0, 0)],
        Conditions(num_classes=3, resolution=16),
    )[0]  # fmt: skip
    assert isinstance(good, float)
    assert isinstance(poor, float)
    assert good > poor


def test_the_default_is_shipped() -> None:
    assert ProxySpec.parse("formula").options.file in shipped_formulas()

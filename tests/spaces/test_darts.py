"""DARTS: published genotypes, their published sizes, isomorphic cells, and tables."""

import itertools

import numpy as np
import pytest

from spaces import DARTS, Arch, InvalidArch
from spaces.darts import NODES, OPERATIONS, PAIRS, Darts

CONCAT = "[2, 3, 4, 5]"
#: Evaluation networks with 36 channels and 20 cells: parameters without the auxiliary head, and the
#: paper's figure in millions. That of P-DARTS was read to the last digit (chenxin061/pdarts, issue
#: 7); of the other two, the last digits are as recalled from the authors' logs.
PUBLISHED = {
    "DARTS (second order)": (
        "('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1), "
        "('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), ('dil_conv_3x3', 2)",
        "('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1), "
        "('max_pool_3x3', 0), ('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)",
        3_349_342,
        3.3,
    ),
    "P-DARTS": (
        "('skip_connect', 0), ('dil_conv_3x3', 1), ('skip_connect', 0), ('sep_conv_3x3', 1), "
        "('sep_conv_3x3', 1), ('sep_conv_3x3', 3), ('sep_conv_3x3', 0), ('dil_conv_5x5', 4)",
        "('avg_pool_3x3', 0), ('sep_conv_5x5', 1), ('sep_conv_3x3', 0), ('dil_conv_5x5', 2), "
        "('max_pool_3x3', 0), ('dil_conv_3x3', 1), ('dil_conv_3x3', 1), ('dil_conv_5x5', 3)",
        3_433_798,
        3.4,
    ),
    "PC-DARTS": (
        "('sep_conv_3x3', 1), ('skip_connect', 0), ('sep_conv_3x3', 0), ('dil_conv_3x3', 1), "
        "('sep_conv_5x5', 0), ('sep_conv_3x3', 1), ('avg_pool_3x3', 0), ('dil_conv_3x3', 1)",
        "('sep_conv_5x5', 1), ('max_pool_3x3', 0), ('sep_conv_5x5', 1), ('sep_conv_5x5', 2), "
        "('sep_conv_3x3', 0), ('sep_conv_3x3', 3), ('sep_conv_3x3', 1), ('sep_conv_3x3', 2)",
        3_634_678,
        3.6,
    ),
}
PAPERS = pytest.mark.parametrize("name", PUBLISHED)


def genotype(name: str, concat: str = CONCAT) -> str:
    normal, reduce, _, _ = PUBLISHED[name]
    return (
        f"Genotype(normal=[{normal}], normal_concat={concat}, "
        f"reduce=[{reduce}], reduce_concat={concat})"
    )


@PAPERS
def test_published_genotypes_are_read_and_printed(name: str) -> None:
    text = genotype(name)
    assert DARTS.to_str(DARTS.from_str(text)) == text


@PAPERS
def test_parameters_are_the_published_ones(name: str) -> None:
    whole = Darts()
    whole.width, whole.n_cells = 36, 20
    _, _, printed, millions = PUBLISHED[name]
    params = int(whole.costs(np.asarray([DARTS.from_str(genotype(name))])).params[0])
    assert params == printed
    assert abs(params / 1e6 - millions) < 0.06


def test_tables_name_them_as_published() -> None:
    name = next(iter(PUBLISHED))
    arch = DARTS.from_str(genotype(name))
    written = [
        genotype(name),
        genotype(name, "range(2, 6)"),
        genotype(name).replace(" ", ""),
        genotype(name).replace("'", '"').replace("], ", "],\n   "),
    ]
    assert [DARTS.from_row({"genotype": text, "accuracy": "97"}) for text in written] == [arch] * 4
    for bad in (genotype(name).replace("1)", "7)", 1), genotype(name)[:-1], "Genotype()"):
        with pytest.raises(InvalidArch, match="darts: cannot read"):
            DARTS.from_row({"genotype": bad})
    with pytest.raises(InvalidArch, match="the row has no column 'genotype'"):
        DARTS.from_row({"arch": genotype(name)})


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("('sep_conv_3x3', 1), ('sep_conv_3x3', 0)", "('sep_conv_3x3', 0), ('sep_conv_3x3', 0)"),
        ("sep_conv_3x3", "none"),
        ("[2, 3, 4, 5]", "[3, 4, 5]"),
        ("('skip_connect', 0)", "('skip_connect', 5)"),
        ("0)", "True)"),
        ("0)", "0.0)"),
    ],
)
def test_what_is_no_genotype_is_refused(old: str, new: str) -> None:
    text = genotype("DARTS (second order)")
    assert old in text
    with pytest.raises(InvalidArch, match="darts: cannot read"):
        DARTS.from_str(text.replace(old, new))


def test_the_official_count() -> None:
    # Per cell: operations on eight edges, and two inputs of 2, 3, 4 and 5 for the four nodes.
    assert len(DARTS) == (7**8 * 1 * 3 * 6 * 10) ** 2
    assert [len(pairs) for pairs in PAIRS] == [2, 6, 12, 20]
    assert 1e18 < len(DARTS) < 1.1e18


def renamed(arch: Arch, order: tuple[int, ...]) -> Arch | None:
    """Return the normal cell with its nodes in another order, None where an edge would go back."""
    edges: dict[int, list[tuple[int, int]]] = {}
    for source, node, op in DARTS.edges(arch, 0):
        new = source if source < 2 else 2 + order[source - 2]
        edges.setdefault(2 + order[node - 2], []).append((new, op))
    choices: list[int] = []
    for number, node in enumerate(NODES):
        (a, first), (b, second) = edges[node]
        if max(a, b) >= node:
            return None
        choices += [PAIRS[number].index((a, b)), first, second]
    return (*choices, *arch[12:])


def test_isomorphic_cells_share_a_canonical_form_and_others_do_not() -> None:
    rng = np.random.default_rng(0)
    seen: dict[Arch, Arch] = {}
    several = 0
    for _ in range(60):
        arch = DARTS.sample(rng)
        form = DARTS.canonical(arch)
        names = [renamed(arch, order) for order in itertools.permutations(range(4))]
        twins = [twin for twin in names if twin is not None]
        several += len(twins) > 1
        assert {DARTS.canonical(twin) for twin in twins} == {form}
        costs = DARTS.costs(np.asarray([*twins, form]))
        assert len(set(costs.params.tolist())) == len(set(costs.flops.tolist())) == 1
        assert seen.setdefault(form, arch) == arch
        # One other operation is another function, unless it stands in for an isomorphic one.
        other = (arch[0], (arch[1] + 1) % 7, *arch[2:])
        assert DARTS.canonical(other) != form
    assert several > 10


def test_the_order_of_two_inputs_does_not_matter() -> None:
    arch = DARTS.from_str(genotype("PC-DARTS"))
    swapped = DARTS.from_str(
        genotype("PC-DARTS").replace(
            "normal=[('sep_conv_3x3', 1), ('skip_connect', 0)",
            "normal=[('skip_connect', 0), ('sep_conv_3x3', 1)",
        )
    )
    assert arch != swapped
    assert DARTS.canonical(arch) == DARTS.canonical(swapped)


def test_names_of_the_paper() -> None:
    assert [op.name for op in OPERATIONS] == [
        *("max_pool_3x3", "avg_pool_3x3", "skip_connect", "sep_conv_3x3", "sep_conv_5x5"),
        *("dil_conv_3x3", "dil_conv_5x5"),
    ]

"""NAS-Bench-101: its graphs, its table, its published counts, and the widths of its networks."""

import hashlib
import itertools
import json
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import chi2, spearmanr

from nas.proxies.base import Conditions, ProxySpec, score_batch
from spaces import Arch, InvalidArch, Population
from spaces.nasbench101 import (
    N_CELLS,
    N_VERTICES,
    NASBENCH101,
    OPERATIONS,
    infer_channels,
    prune,
)
from spaces.nasbench101_net import Module, NasBench101Network, Vertex

Rows = list[dict[str, str]]
SMALLEST = "conv3x3~+conv3x3~+conv3x3~+conv3x3~+conv3x3~+output~0"
EDGES = list(itertools.combinations(range(7), 2))
SEEDS = st.integers(0, 2**32 - 1)

#: Rows of the benchmark: 7, 6 and 5 vertices.
ROWS: Rows = [
    {
        "hash": "fabad270b30c6e239c99dda3461a95cd",
        "matrix": "[[0,1,0,1,0,0,0],[0,0,1,1,0,0,0],[0,0,0,0,1,0,1],[0,0,0,0,1,0,0],"
        "[0,0,0,0,0,1,0],[0,0,0,0,0,0,1],[0,0,0,0,0,0,0]]",
        "ops": '["input","conv1x1-bn-relu","maxpool3x3","conv3x3-bn-relu","conv3x3-bn-relu",'
        '"conv3x3-bn-relu","output"]',
    },
    {
        "hash": "8fbd08ce7d34d550c8ded7e1f18b9d0e",
        "matrix": "[[0,1,0,1,0,0],[0,0,1,0,1,1],[0,0,0,0,0,1],[0,0,0,0,1,0],[0,0,0,0,0,1],"
        "[0,0,0,0,0,0]]",
        "ops": '["input","conv3x3-bn-relu","conv3x3-bn-relu","maxpool3x3","conv3x3-bn-relu",'
        '"output"]',
    },
    {
        "hash": "7be8934ff1bab26fb6f22857c3586331",
        "matrix": "[[0,1,0,1,1],[0,0,1,1,0],[0,0,0,1,0],[0,0,0,0,1],[0,0,0,0,0]]",
        "ops": '["input","conv1x1-bn-relu","maxpool3x3","conv1x1-bn-relu","output"]',
    },
]
TEXTS = [
    "conv1x1~0+maxpool3x3~1+conv3x3~01+conv3x3~23+conv3x3~4+output~25",
    "conv3x3~0+conv3x3~1+maxpool3x3~0+conv3x3~13+conv3x3~+output~124",
    "conv1x1~0+maxpool3x3~1+conv1x1~012+conv3x3~+conv3x3~+output~03",
]


def draw(seed: int) -> Arch:
    return NASBENCH101.sample(np.random.default_rng(seed))


def matrix_of(arch: Arch) -> NDArray[np.int64]:
    matrix = np.zeros((7, 7), dtype=np.int64)
    for bit, edge in zip(arch, EDGES, strict=False):
        matrix[edge] = bit
    return matrix


def arch_of(matrix: NDArray[np.int64], operations: list[int]) -> Arch:
    return (*(int(matrix[edge]) for edge in EDGES), *operations)


def pruned(arch: Arch) -> NDArray[np.int64]:
    """Return the matrix without edges off the paths from input to output, by walking all paths."""
    matrix = matrix_of(arch)
    kept = np.zeros_like(matrix)
    for n in range(6):
        for inner in itertools.combinations(range(1, 6), n):
            path = list(itertools.pairwise((0, *inner, 6)))
            if all(matrix[edge] for edge in path):
                for edge in path:
                    kept[edge] = 1
    return kept


def graph_hash(arch: Arch) -> str:
    """Return the benchmark's hash of a cell, equal for isomorphic cells: seven rounds of MD5."""

    def md5(text: str) -> str:
        return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()

    matrix = pruned(arch)
    used = [v for v in range(7) if matrix[v].any() or matrix[:, v].any()]
    labels = {0: -1, 6: -2} | {v: arch[len(EDGES) + v - 1] for v in range(1, 6)}
    hashes = {v: md5(str((int(matrix[v].sum()), int(matrix[:, v].sum()), labels[v]))) for v in used}
    for _ in used:
        before = hashes
        hashes = {}
        for v in used:
            sources = sorted(before[w] for w in used if matrix[w, v])
            targets = sorted(before[w] for w in used if matrix[v, w])
            hashes[v] = md5("|".join(("".join(sources), "".join(targets), before[v])))
    return md5(str(sorted(hashes.values())))


@pytest.mark.parametrize(("row", "text"), list(zip(ROWS, TEXTS, strict=True)), ids=["7", "6", "5"])
def test_rows_and_texts(row: dict[str, str], text: str) -> None:
    arch = NASBENCH101.from_row(row)
    assert NASBENCH101.to_str(arch) == text
    assert NASBENCH101.from_str(text) == arch
    assert graph_hash(arch) == row["hash"]
    assert graph_hash(NASBENCH101.canonical(arch)) == row["hash"]


def test_every_row_of_the_table(read_rows: Callable[[str], Rows]) -> None:
    rows = read_rows("nasbench101_500")
    archs = [NASBENCH101.from_row(row) for row in rows]
    hashes = [row["hash"] for row in rows]
    assert [graph_hash(arch) for arch in archs] == hashes
    forms = [tuple(form) for form in NASBENCH101.canonicalise(np.asarray(archs)).tolist()]
    assert [graph_hash(form) for form in forms] == hashes
    assert len(set(forms)) == len(set(hashes)) == len(rows) == 500


BAD_ROWS = [
    ({"ops": "[]"}, "no column 'matrix'"),
    ({"matrix": "[]"}, "no column 'ops'"),
    ({"matrix": "[[0, 1], [0, 0]", "ops": "[]"}, "matrix: not JSON"),
    ({"matrix": "[" * 100_000, "ops": "[]"}, "matrix: not JSON"),
    ({"matrix": "7", "ops": "[]"}, "matrix: expected a list, got '7'"),
    ({"matrix": "[]", "ops": "[]"}, "square matrix of 2 to 7 rows"),
    ({"matrix": "[[0]]", "ops": '["input"]'}, "square matrix of 2 to 7 rows"),
    ({"matrix": "[[0, 1], 3]", "ops": '["input", "output"]'}, "square matrix"),
    ({"matrix": "[[0, 1], [0]]", "ops": '["input", "output"]'}, "square matrix"),
    ({"matrix": json.dumps([[0] * 8] * 8), "ops": json.dumps(["input"] * 8)}, "square matrix"),
    ({"matrix": "[[0, 1], [0, 0]]", "ops": '["input", "input"]'}, "expected 'input', then"),
    ({"matrix": "[[0, 1], [0, 0]]", "ops": '[["input"], {}]'}, "expected 'input', then"),
    (
        {"matrix": "[[0, 1, 1], [0, 0, 1], [0, 0, 0]]", "ops": '["input", "conv5x5", "output"]'},
        "conv3x3-bn-relu, conv1x1-bn-relu, maxpool3x3",
    ),
    ({"matrix": "[[0, 2], [0, 0]]", "ops": '["input", "output"]'}, "entry 0, 1 .* 0 or 1, got 2"),
    ({"matrix": "[[0, 1], [1, 0]]", "ops": '["input", "output"]'}, "entry 1, 0 .* later vertices"),
    ({"matrix": "[[1, 1], [0, 0]]", "ops": '["input", "output"]'}, "entry 0, 0 .* later vertices"),
    ({"matrix": "[[0, 0], [0, 0]]", "ops": '["input", "output"]'}, "no path leads from input"),
]


@pytest.mark.parametrize(("row", "message"), BAD_ROWS)
def test_bad_rows(row: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidArch, match=f"nasbench101: .*{message}"):
        NASBENCH101.from_row(row)


def test_bad_texts_say_what_is_allowed() -> None:
    with pytest.raises(InvalidArch, match="Did you mean 'maxpool3x3'"):
        NASBENCH101.from_str("maxpol3x3~0+conv3x3~+conv3x3~+conv3x3~+conv3x3~+output~1")
    for text in (TEXTS[0] + "+", TEXTS[0].replace("~01", "~10"), TEXTS[0].replace("~4", "~5")):
        with pytest.raises(InvalidArch, match="expected the form 'conv3x3~0"):
            NASBENCH101.from_str(text)


@given(SEEDS)
def test_members_are_cells_of_at_most_nine_edges(seed: int) -> None:
    bits = np.random.default_rng(seed).integers(2, size=21).tolist()
    arch = (*bits, 0, 1, 2, 0, 1)
    edges = int(pruned(arch).sum())
    if 1 <= edges <= 9:
        assert NASBENCH101.validate(arch) == arch
        return
    message = f"at most 9 edges .* got {edges}:" if edges else "no path leads"
    with pytest.raises(InvalidArch, match=message):
        NASBENCH101.validate(arch)
    with pytest.raises(InvalidArch, match=message):
        NASBENCH101.canonicalise(np.asarray([draw(seed), arch]))


@given(SEEDS, st.permutations(range(1, 6)))
def test_renamed_vertices_are_the_same_cell(seed: int, order: list[int]) -> None:
    """Rename by any order that keeps every edge leading on, and put rubbish beside the paths."""
    arch = draw(seed)
    matrix = pruned(arch)
    places = [0, *order, 6]
    renamed = matrix[np.ix_(places, places)]
    if np.tril(renamed).sum():
        return
    rng = np.random.default_rng(seed)
    used = renamed.sum(axis=0) > 0
    operations = [arch[len(EDGES) + v - 1] for v in order]
    for v in range(1, 6):
        if not used[v]:  # leads nowhere, and holds another operation
            operations[v - 1] = int(rng.integers(3))
            renamed[0, v] = rng.integers(2)
    other = arch_of(renamed, operations)
    assert NASBENCH101.canonical(other) == NASBENCH101.canonical(arch)
    assert graph_hash(other) == graph_hash(arch)


@given(SEEDS)
def test_the_canonical_form_is_the_cheapest_then_the_smallest(seed: int) -> None:
    arch = draw(seed)
    matrix = pruned(arch)
    used = [v for v in range(1, 6) if matrix[:, v].any()]
    names = []
    for order in itertools.permutations(used):
        places = [0, *order, *(v for v in range(1, 6) if v not in used), 6]
        renamed = matrix[np.ix_(places, places)]
        operations = [arch[len(EDGES) + v - 1] for v in order] + [0] * (5 - len(used))
        if not np.tril(renamed).any():
            names.append(arch_of(renamed, operations))
    params = NASBENCH101.costs(np.asarray(names)).params.tolist()
    assert NASBENCH101.canonical(arch) == min(zip(params, names, strict=True))[1]


def test_the_order_of_vertices_can_cost_parameters() -> None:
    """128 channels by three are 43, 43 and 42: the pool should not be the one with fewer."""
    texts = (
        "conv3x3~0+conv3x3~0+maxpool3x3~0+conv3x3~+conv3x3~+output~123",
        "maxpool3x3~0+conv3x3~0+conv3x3~0+conv3x3~+conv3x3~+output~123",
    )
    first, second = (NASBENCH101.from_str(text) for text in texts)
    params = NASBENCH101.costs(np.asarray([first, second])).params
    assert params[0] > params[1]
    assert NASBENCH101.canonical(first) == NASBENCH101.canonical(second)
    assert NASBENCH101.costs(np.asarray([NASBENCH101.canonical(first)])).params == params[1]


def all_graphs(n_inner: int) -> NDArray[np.int64]:
    """Return the edges of every graph of at most nine in which each vertex lies on a path."""
    here = [0, *range(1, n_inner + 1), 6]
    places = [place for place, (i, j) in enumerate(EDGES) if i in here and j in here]
    codes = np.arange(2 ** len(places))
    count = np.zeros_like(codes)
    for bit in range(len(places)):
        count += (codes >> bit) & 1
    keep = count <= 9
    # Edges lead on to later vertices, so one in and one out is enough to lie on a path.
    for v in here:
        into = sum(1 << bit for bit, place in enumerate(places) if EDGES[place][1] == v)
        out = sum(1 << bit for bit, place in enumerate(places) if EDGES[place][0] == v)
        keep &= (v == 0) | (codes & into > 0)
        keep &= (v == 6) | (codes & out > 0)
    graphs = np.zeros((int(keep.sum()), len(EDGES)), dtype=np.int64)
    graphs[:, places] = (codes[keep][:, None] >> np.arange(len(places))) & 1
    return graphs


def test_the_published_number_of_cells_and_their_sizes() -> None:
    """423,624 cells of 227,274 to 49,979,274 parameters, counted from nothing but the rules.

    The graphs are enumerated, and each is labelled with operations in as many ways as Burnside's
    lemma says: the mean over its symmetries of 3 to the power of their cycles.
    """
    total = 0
    params: list[int] = []
    for n_inner in range(6):
        graphs = all_graphs(n_inner)
        plain = np.concatenate([graphs, np.zeros((len(graphs), 5), dtype=np.int64)], axis=1)
        forms = np.unique(NASBENCH101.canonicalise(plain), axis=0)
        matrices = np.asarray([matrix_of(tuple(form)) for form in forms.tolist()])
        symmetries = np.zeros(len(forms), dtype=np.int64)
        labellings = np.zeros(len(forms), dtype=np.int64)
        for order in itertools.permutations(range(1, n_inner + 1)):
            places = [0, *order, *range(n_inner + 1, 7)]
            fits = (matrices[:, places][:, :, places] == matrices).all(axis=(1, 2))
            cycles = {frozenset(cycle(places, v)) for v in range(1, n_inner + 1)}
            symmetries += fits
            labellings += fits * 3 ** len(cycles)
        total += int((labellings // symmetries).sum())
        for op in range(len(OPERATIONS)):  # all 3x3 is the largest, all pools the smallest
            forms[:, len(EDGES) : len(EDGES) + n_inner] = op
            params += NASBENCH101.costs(forms).params.tolist()
    assert total == N_CELLS == 423_624
    assert (min(params), max(params)) == (227_274, 49_979_274)


def cycle(places: list[int], start: int) -> list[int]:
    """Return the vertices that renaming again and again makes of one."""
    found = [start]
    while places[found[-1]] != start:
        found.append(places[found[-1]])
    return found


def test_published_parameters() -> None:
    """The Inception-like cell that the benchmark's README queries has 2,694,282 parameters."""
    arch = NASBENCH101.from_row(
        {
            "matrix": "[[0,1,1,1,0,1,0],[0,0,0,0,0,0,1],[0,0,0,0,0,0,1],[0,0,0,0,1,0,0],"
            "[0,0,0,0,0,0,1],[0,0,0,0,0,0,1],[0,0,0,0,0,0,0]]",
            "ops": '["input","conv1x1-bn-relu","conv3x3-bn-relu","conv3x3-bn-relu",'
            '"conv3x3-bn-relu","maxpool3x3","output"]',
        }
    )
    assert NASBENCH101.costs(np.asarray([arch])).params == 2_694_282


@pytest.mark.parametrize(
    ("text", "channels"),
    [
        ("conv3x3~0+conv3x3~0+conv3x3~0+conv3x3~+conv3x3~+output~123", [43, 43, 42, 0, 0]),
        ("conv3x3~0+conv3x3~0+conv3x3~0+conv3x3~0+conv3x3~+output~1234", [32, 32, 32, 32, 0]),
        # Vertex 1 feeds 3 and 4 and is as wide as the wider; 4 takes 42 of its 43 channels.
        ("conv1x1~0+conv3x3~0+conv3x3~1+conv3x3~1+conv3x3~+output~234", [43, 43, 43, 42, 0]),
        # What feeds the output has its share even if it feeds another vertex too.
        ("conv3x3~0+conv3x3~1+conv3x3~2+conv3x3~+conv3x3~+output~123", [43, 43, 42, 0, 0]),
        ("conv3x3~0+conv3x3~1+conv3x3~2+conv3x3~+conv3x3~+output~3", [128, 128, 128, 0, 0]),
        # Vertex 2 reaches no output and takes no channels.
        ("conv3x3~0+conv3x3~0+conv3x3~1+conv3x3~+conv3x3~+output~3", [128, 0, 128, 0, 0]),
        ("conv3x3~+conv3x3~+conv3x3~+conv3x3~+conv3x3~+output~0", [0, 0, 0, 0, 0]),
    ],
)
def test_channels_by_the_official_rule(text: str, channels: list[int]) -> None:
    matrix = pruned(NASBENCH101.from_str(text)).astype(bool)
    assert infer_channels(matrix[None], 128)[0].tolist() == channels


@given(SEEDS, st.sampled_from([128, 256, 512]))
def test_channels_add_up_and_never_grow_by_more_than_one(seed: int, width: int) -> None:
    matrix = pruned(draw(seed))
    channels = [width, *infer_channels(matrix[None].astype(bool), width)[0].tolist(), width]
    feeds = [v for v in range(1, 6) if matrix[v, 6]]
    assert sum(channels[v] for v in feeds) == (width if feeds else 0)
    for source, target in itertools.combinations(range(1, 6), 2):
        if matrix[source, target]:
            assert 0 <= channels[source] - channels[target] <= 1 or source in feeds
            assert channels[source] >= channels[target]


def test_a_module_computes_what_the_paper_says() -> None:
    """Concatenate what feeds the output, add the projected input; cut 43 channels to 42."""
    torch.manual_seed(0)
    text = "conv1x1~0+maxpool3x3~0+conv3x3~1+conv3x3~12+conv3x3~+output~0234"
    matrix = pruned(NASBENCH101.from_str(text)).astype(bool)
    names = [OPERATIONS[i] for i in (1, 2, 0, 0, 0)]
    module = Module(matrix, names, 16, 128).eval()
    image = torch.randn(2, 16, 8, 8)
    parts = dict(module.named_children())
    vertex = {v: parts[f"vertex{v}"] for v in range(1, 5)}
    assert "vertex5" not in parts
    heard = {v: part for v, part in vertex.items() if isinstance(part, Vertex)}
    assert {v: part.project is not None for v, part in heard.items()} == {
        1: True,
        2: True,
        3: False,
        4: False,
    }
    with torch.no_grad():
        one = heard[1].op(_project(heard[1], image))
        two = heard[2].op(_project(heard[2], image))
        three = heard[3].op(one)
        four = heard[4].op(one[:, :42] + two[:, :42])
        expected = torch.cat([two, three, four], dim=1) + parts["project"](image)
        assert [t.shape[1] for t in (one, two, three, four)] == [43, 43, 43, 42]
        torch.testing.assert_close(module(image), expected)


def _project(vertex: Vertex, image: torch.Tensor) -> torch.Tensor:
    assert vertex.project is not None
    projected: torch.Tensor = vertex.project(image)
    return projected


def test_the_network_has_the_published_skeleton() -> None:
    arch = NASBENCH101.from_str("conv3x3~+conv3x3~+conv3x3~+conv3x3~+conv3x3~+output~0")
    net = NASBENCH101.build(arch, num_classes=10)
    assert isinstance(net, NasBench101Network)
    sizes = []
    for module in net.body:
        module.register_forward_hook(lambda m, args, out: sizes.append(tuple(out.shape[1:])))
    assert net(torch.randn(2, 3, 17, 17)).shape == (2, 10)
    assert sizes == [
        *[(128, 17, 17)] * 3,
        (128, 9, 9),  # an odd row is a window of its own
        *[(256, 9, 9)] * 3,
        (256, 5, 5),
        *[(512, 5, 5)] * 3,
    ]
    weight = net.stem[0].weight
    assert isinstance(weight, torch.Tensor)
    weight = weight.detach()
    assert float(weight.std()) == pytest.approx(1 / np.sqrt(27), rel=0.05)
    assert float(weight.abs().max()) < 2.0 / np.sqrt(27) / 0.879


def test_sampling_is_uniform() -> None:
    """Against the exact distribution: of the number of edges, and of the operations."""
    codes = np.arange(2**21)
    bits = [(codes >> place) & 1 > 0 for place in range(21)]
    fed = {0: np.ones(len(codes), dtype=bool)}
    used = {6: np.ones(len(codes), dtype=bool)}
    for v in range(1, 7):
        fed[v] = np.any([bits[e] & fed[i] for e, (i, j) in enumerate(EDGES) if j == v], axis=0)
    for v in range(5, -1, -1):
        used[v] = np.any([bits[e] & used[j] for e, (i, j) in enumerate(EDGES) if i == v], axis=0)
    live, written = np.zeros_like(codes), np.zeros_like(codes)
    for bit, (i, j) in zip(bits, EDGES, strict=True):
        live += bit & fed[i] & used[j]
        written += bit
    member = (live >= 1) & (live <= 9)
    kinds = 10 * np.minimum(written, 13) + live  # jointly, rare ones put together
    exact = np.bincount(kinds[member], minlength=140) / member.sum()

    drawn = NASBENCH101.sample_many(5000, np.random.default_rng(4))
    drawn_codes = (drawn[:, :21] << np.arange(21)).sum(axis=1)
    assert member[drawn_codes].all()
    seen = np.bincount(kinds[drawn_codes], minlength=140)
    assert p_value(seen, exact) > 0.001
    digits = (drawn[:, 21:] * 3 ** np.arange(5)).sum(axis=1)
    assert p_value(np.bincount(digits, minlength=243), np.full(243, 1 / 243)) > 0.001
    rng = np.random.default_rng(4)
    assert NASBENCH101.sample(rng) == tuple(drawn[0].tolist())


def p_value(seen: NDArray[np.int64], exact: NDArray[np.float64]) -> float:
    expected = exact * seen.sum()
    assert (seen[expected == 0] == 0).all()
    often = expected >= 5
    observed = np.append(seen[often], seen[~often].sum())
    expected = np.append(expected[often], max(expected[~often].sum(), 1e-9))
    return float(chi2.sf(((observed - expected) ** 2 / expected).sum(), len(observed) - 1))


def test_a_child_without_a_valid_mixture_has_the_edges_of_the_first_parent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("spaces.nasbench101._first_member", lambda mixtures: None)
    first, second = (NASBENCH101.from_str(text) for text in TEXTS[:2])
    rng = np.random.default_rng(0)
    children = [NASBENCH101.crossover(first, second, rng) for _ in range(20)]
    assert {child[:21] for child in children} == {first[:21]}
    assert {child[21] for child in children} == {first[21], second[21]}
    assert all(NASBENCH101.validate(child) == child for child in children)


def score(name: str, archs: list[Arch]) -> list[float]:
    outcomes = score_batch(NASBENCH101, [ProxySpec.parse(name)], archs, Conditions())[0]
    values = [outcome for outcome in outcomes if isinstance(outcome, float)]
    assert len(values) == len(archs)
    return values


def test_sed_does_not_depend_on_the_names_of_vertices() -> None:
    archs = [draw(seed) for seed in range(50)]
    forms = [NASBENCH101.canonical(arch) for arch in archs]
    assert score("sed", archs) == pytest.approx(score("sed", forms), rel=1e-12)


def test_sed_ranks_better_than_parameters(read_rows: Callable[[str], Rows]) -> None:
    rows = read_rows("nasbench101_500")
    archs = [NASBENCH101.from_row(row) for row in rows]
    accuracy = [float(row["acc"]) for row in rows]
    sed, params = (spearmanr(score(name, archs), accuracy).statistic for name in ("sed", "params"))
    assert sed > params


def _n_live(population: Population) -> list[int]:
    return [int(matrix.any(axis=0).sum()) - 1 for matrix in prune(population)]


@pytest.mark.parametrize("inner", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_every_cell_is_reached_by_steps(inner: int) -> None:
    """All cells of so many vertices, listed, against those that a walk finds from the smallest."""
    ends = [*range(inner + 1), N_VERTICES - 1]
    places = [EDGES.index(pair) for pair in itertools.combinations(ends, 2)]
    rows = []
    for bits in itertools.product((0, 1), repeat=len(places)):
        edges = np.zeros(len(EDGES), dtype=np.int64)
        edges[places] = bits
        for operations in itertools.product(range(3), repeat=inner):
            rows.append([*edges.tolist(), *operations, *[0] * (5 - inner)])
    every = np.asarray(rows, dtype=np.int64)
    counts = prune(every).sum(axis=(1, 2))
    members = NASBENCH101.canonicalise(every[(counts > 0) & (counts <= 9)])
    expected = set(map(tuple, members.tolist()))
    start = NASBENCH101.canonical(NASBENCH101.from_str(SMALLEST))
    reached, border = {start}, [start]
    while border:
        near = NASBENCH101.canonicalise(np.asarray(NASBENCH101.near(border.pop())))
        for other, live in zip(map(tuple, near.tolist()), _n_live(near), strict=True):
            if live <= inner and other not in reached:
                reached.add(other)
                border.append(other)
    assert reached == expected


def test_mutations_of_canonical_forms_grow_cells() -> None:
    rng = np.random.default_rng(0)
    arch = NASBENCH101.canonical(NASBENCH101.from_str(SMALLEST))
    seen = set()
    for _ in range(100):
        arch = NASBENCH101.canonical(NASBENCH101.mutate(arch, rng))
        seen.update(_n_live(np.asarray([arch])))
    assert max(seen) == 5


def test_leaps_are_those_of_hand() -> None:
    """From one convolution between the ends, by a pool before, behind or beside it, or past it."""
    arch = NASBENCH101.from_str("conv3x3~0+conv3x3~+conv3x3~+conv3x3~+conv3x3~+output~1")
    near = NASBENCH101.canonicalise(np.asarray(NASBENCH101.near(arch)))
    pooled = {NASBENCH101.to_str(row) for row in near.tolist() if 2 in row[-5:]}
    rest = "+conv3x3~+conv3x3~+conv3x3~"
    texts = [
        f"maxpool3x3~0+conv3x3~1{rest}+output~2",
        f"maxpool3x3~0+conv3x3~01{rest}+output~2",
        f"conv3x3~0+maxpool3x3~1{rest}+output~2",
        f"conv3x3~0+maxpool3x3~1{rest}+output~12",
        f"conv3x3~0+maxpool3x3~0{rest}+output~12",
        f"maxpool3x3~0+conv3x3~{rest}+output~1",
    ]
    expected = {NASBENCH101.to_str(NASBENCH101.canonical(NASBENCH101.from_str(x))) for x in texts}
    assert pooled == expected

"""What every space must do; a new entry of the table is tested by being there."""

import math
from functools import lru_cache

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2
from torch.utils.flop_counter import FlopCounterMode

from spaces import SPACES, Arch, CellSpace, InvalidArch, NasError, Population, Space

from .examples import OWN

N_DRAWS = 500
ALL: dict[str, Space] = {**SPACES, **OWN}
UNORDERED = {
    "nasbench101",  # the benchmark numbers its members in no order
    "darts",  # nor are these numbered
    "own_large_cells",  # too many to be listed
    "edge",  # nor can the documentation's example be
}
CONSTRAINED = {"nasbench101", "transnas_macro"}  # not every combination of choices is a member

SPACE = st.sampled_from(list(ALL.values()))
ANY_SPACE = pytest.mark.parametrize("space", ALL.values(), ids=ALL.keys())


@lru_cache
def draws(space: Space, seed: int = 0) -> tuple[Arch, ...]:
    rng = np.random.default_rng(seed)
    return tuple(space.sample(rng) for _ in range(N_DRAWS))


def population(space: Space) -> Population:
    members = np.asarray(draws(space), dtype=np.int64)
    members.setflags(write=False)  # no method may write into what it is given
    return members


def differences(first: Arch, second: Arch) -> int:
    return sum(a != b for a, b in zip(first, second, strict=True))


def is_arch(value: object, space: Space) -> bool:
    """Tell whether a value is what the rest of the house takes for an architecture."""
    return (
        isinstance(value, tuple)
        and all(type(choice) is int for choice in value)
        and space.validate(value) == value
    )


def test_names() -> None:
    for name, space in ALL.items():
        assert space.name == name
        assert space.summary
        assert space.revision >= 1
        assert name in repr(space)


@ANY_SPACE
def test_sampling_depends_on_the_seed_only(space: Space) -> None:
    first, second = (np.random.default_rng(7) for _ in range(2))
    assert [space.sample(first) for _ in range(20)] == [space.sample(second) for _ in range(20)]
    assert draws(space, 0) != draws(space, 1)
    assert all(is_arch(arch, space) for arch in draws(space))
    many = space.sample_many(100, np.random.default_rng(7))
    assert many.shape == (100, len(space.dimensions))
    assert (many == space.sample_many(100, np.random.default_rng(7))).all()
    assert all(is_arch(tuple(row), space) for row in many.tolist())
    assert space.sample_many(0, first).shape == (0, len(space.dimensions))


@pytest.mark.parametrize("name", sorted(set(ALL) - CONSTRAINED))
def test_sampling_is_uniform(name: str) -> None:
    """Any two choices together; a space that forbids combinations needs a test of its own."""
    space = ALL[name]
    rng = np.random.default_rng(20)
    n = 4000
    one_by_one = [space.sample(rng) for _ in range(n // 2)]
    drawn = np.concatenate([one_by_one, space.sample_many(n // 2, rng)])
    sizes = space.dimensions
    pairs = [(i, j) for i in range(len(sizes)) for j in range(i)]
    for i, j in pairs:
        cells = sizes[i] * sizes[j]
        seen = np.bincount(drawn[:, i] * sizes[j] + drawn[:, j], minlength=cells)
        statistic = float(((seen - n / cells) ** 2).sum() / (n / cells))
        assert chi2.sf(statistic, cells - 1) > 0.001 / len(pairs), (i, j)


@ANY_SPACE
def test_text_round_trip(space: Space) -> None:
    archs = set(draws(space))
    texts = {space.to_str(arch) for arch in archs}
    assert len(texts) == len(archs)
    for arch in archs:
        text = space.to_str(arch)
        assert space.from_str(text) == arch
        assert is_arch(space.from_str(text), space)
        assert text == text.strip()
        assert text.isascii()


def read(space: Space, text: str) -> None:
    """Check that a text is refused, or read as exactly what prints it."""
    try:
        arch = space.from_str(text)
    except InvalidArch as error:
        assert space.name in str(error)  # noqa: PT017 - a text that is read is right as well
    else:
        assert space.to_str(arch) == text


@given(SPACE, st.text())
def test_garbage_is_refused(space: Space, text: str) -> None:
    read(space, text)


@given(SPACE, st.integers(0, N_DRAWS - 1), st.data())
def test_a_damaged_text_is_refused_or_means_what_it_says(
    space: Space, place: int, data: st.DataObject
) -> None:
    text = space.to_str(draws(space)[place])
    letters = st.sampled_from([*sorted(set(text)), "", " ", "\n", "٣", "x", "9"])
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 3)))
    read(space, text[:start] + "".join(data.draw(st.lists(letters, max_size=3))) + text[end:])


@ANY_SPACE
@pytest.mark.parametrize("junk", ["", " ", "|", "+", ":", "none", "0" * 10_000])
def test_junk_is_refused(space: Space, junk: str) -> None:
    with pytest.raises(InvalidArch, match=space.name):
        space.from_str(junk)


@ANY_SPACE
def test_a_row_of_a_table_names_a_member(space: Space) -> None:
    if space.row_columns == ("arch",):
        arch = draws(space)[0]
        assert space.from_row({"arch": space.to_str(arch), "accuracy": "x"}) == arch
    with pytest.raises((InvalidArch, KeyError)):
        space.from_row(dict.fromkeys(space.row_columns, "?"))


@ANY_SPACE
def test_validate(space: Space) -> None:
    arch = draws(space)[0]
    assert space.validate(list(arch)) == arch
    assert space.validate(np.asarray(arch, dtype=np.int32)) == arch  # type: ignore[arg-type]
    assert is_arch(space.validate(np.asarray(arch)), space)  # type: ignore[arg-type]
    bad: list[object] = [
        (),
        arch[:-1],
        (*arch, 0),
        (-1, *arch[1:]),
        (*arch[:-1], space.dimensions[-1]),
        (10**30, *arch[1:]),
        tuple(float(choice) for choice in arch),
        tuple(str(choice) for choice in arch),
        space.to_str(arch),
        None,
        [arch],
    ]
    for value in bad:
        with pytest.raises(InvalidArch, match=space.name):
            space.validate(value)  # type: ignore[arg-type]


@ANY_SPACE
def test_mutation_is_another_member_one_step_away(space: Space) -> None:
    rng = np.random.default_rng(1)
    for arch in draws(space):
        child = space.mutate(arch, rng)
        assert is_arch(child, space)
        assert differences(arch, child) == 1 or child in space.leaps(arch)


@ANY_SPACE
def test_mutation_reaches_every_neighbour(space: Space) -> None:
    rng = np.random.default_rng(2)
    arch = draws(space)[0]
    near = space.near(arch)
    assert {space.mutate(arch, rng) for _ in range(20 * len(near))} == set(near)


@ANY_SPACE
def test_neighbours(space: Space) -> None:
    for arch in draws(space)[:20]:
        near = space.neighbours(arch)
        assert len(set(near)) == len(near)
        assert near == space.neighbours(arch)
        for other in near:
            assert is_arch(other, space)
            assert differences(arch, other) == 1
            assert arch in space.neighbours(other)
        if space.name not in CONSTRAINED:
            assert len(near) == sum(size - 1 for size in space.dimensions)


@ANY_SPACE
def test_leaps_are_members_that_no_single_choice_leads_to(space: Space) -> None:
    for arch in draws(space)[:20]:
        leaps = space.leaps(arch)
        assert len(set(leaps)) == len(leaps)
        assert leaps == space.leaps(arch)
        for other in leaps:
            assert is_arch(other, space)
            assert differences(arch, other) > 1


@ANY_SPACE
def test_neighbours_are_all_members_one_step_away(space: Space) -> None:
    for arch in draws(space)[:5]:
        near = set(space.neighbours(arch))
        for position, size in enumerate(space.dimensions):
            for value in range(size):
                other = (*arch[:position], value, *arch[position + 1 :])
                try:
                    space.validate(other)
                except InvalidArch:
                    assert other not in near
                else:
                    assert (other in near) == (other != arch)


@ANY_SPACE
def test_crossover(space: Space) -> None:
    rng = np.random.default_rng(3)
    archs = draws(space)
    from_first = choices = 0
    for first, second in zip(archs[::2], archs[1::2], strict=True):
        child = space.crossover(first, second, rng)
        assert is_arch(child, space)
        for a, b, c in zip(first, second, child, strict=True):
            assert c in (a, b)
            from_first += a != b and c == a
            choices += a != b
        assert space.crossover(first, first, rng) == first
    if space.name not in CONSTRAINED:
        assert abs(from_first - choices / 2) < 4 * math.sqrt(choices) / 2


@ANY_SPACE
def test_encoding(space: Space) -> None:
    archs = sorted(set(draws(space)))
    codes = np.asarray([space.encode(arch) for arch in archs])
    assert codes.shape == (len(archs), sum(space.dimensions))
    assert len(np.unique(codes, axis=0)) == len(archs)
    assert set(np.unique(codes)) == {0.0, 1.0}
    assert (codes.sum(axis=1) == len(space.dimensions)).all()


@ANY_SPACE
def test_canonical_forms(space: Space) -> None:
    members = population(space)
    forms = space.canonicalise(members)
    assert forms.shape == members.shape
    assert forms.dtype == np.int64
    assert (space.canonicalise(forms) == forms).all()
    for arch, row in zip(draws(space)[:100], forms.tolist(), strict=False):
        assert is_arch(space.canonical(arch), space)
        assert space.canonical(arch) == tuple(row)
    # The same whatever else is in the batch.
    assert (space.canonicalise(members[::-1][:37]) == forms[::-1][:37]).all()
    assert (space.costs(forms).params <= space.costs(members).params).all()


@ANY_SPACE
def test_an_empty_population(space: Space) -> None:
    nobody = np.empty((0, len(space.dimensions)), dtype=np.int64)
    assert space.canonicalise(nobody).shape == nobody.shape
    assert space.costs(nobody).params.shape == space.costs(nobody).flops.shape == (0,)


@ANY_SPACE
def test_official_order(space: Space) -> None:
    if space.name in UNORDERED:
        for ask in (space.all, lambda: space.at(0), lambda: space.index(draws(space)[0])):
            with pytest.raises(NasError, match=f"{space.name}: .* no official order"):
                ask()
        return
    members = space.all()
    assert members.shape == (len(space), len(space.dimensions))
    assert not members.flags.writeable
    assert len(np.unique(members, axis=0)) == len(space)
    for index in (0, 1, len(space) // 3, len(space) - 1):
        assert space.at(index) == tuple(members[index].tolist())
        assert is_arch(space.at(index), space)
        assert space.index(space.at(index)) == index
    for arch in draws(space)[:100]:
        assert space.at(space.index(arch)) == arch
    for index in (-1, len(space)):
        with pytest.raises(InvalidArch, match=rf"index must be in 0\.\.{len(space) - 1}"):
            space.at(index)
    with pytest.raises(InvalidArch):
        space.index((-1,) * len(space.dimensions))


@ANY_SPACE
def test_networks_run_and_learn(space: Space) -> None:
    images = torch.randn((2, 3, 32, 32), generator=torch.Generator().manual_seed(0))
    n_networks = 2 if space.name in ("nasbench101", "darts") else 5  # 100 times as large
    by_size = np.argsort(space.costs(population(space)).params)[: N_DRAWS // 2]
    for place in by_size[:: len(by_size) // n_networks][:n_networks]:
        net = space.build(draws(space)[place], num_classes=7)
        assert net.training
        logits = net(images)
        assert logits.shape == (2, 7)
        logits.square().sum().backward()
        grads = [weight.grad for weight in net.parameters() if weight.grad is not None]
        assert grads
        assert all(bool(torch.isfinite(grad).all()) for grad in grads)
        assert any(bool((grad != 0).any()) for grad in grads)


def smallest(space: Space) -> Arch:
    """Return the draw with the fewest parameters."""
    return draws(space)[int(space.costs(population(space)).params.argmin())]


@ANY_SPACE
@pytest.mark.parametrize("in_chans", [1, 4])
def test_images_may_have_any_number_of_channels(space: Space, in_chans: int) -> None:
    arch = smallest(space)
    with torch.device("meta"):
        usual, net = space.build(arch), space.build(arch, in_chans=in_chans)
        assert net(torch.empty((2, in_chans, 32, 32))).shape == (2, 10)
    shapes = [{k: tuple(v.shape) for k, v in each.state_dict().items()} for each in (usual, net)]
    differs = [key for key in shapes[0] if shapes[0][key] != shapes[1][key]]
    assert len(differs) == 1  # the first convolution's weight
    assert shapes[1][differs[0]][1] == in_chans


@ANY_SPACE
def test_no_classes_are_pooled_features(space: Space) -> None:
    arch = smallest(space)
    with torch.device("meta"):
        usual, net = space.build(arch), space.build(arch, num_classes=0)
        features = net(torch.empty((2, 3, 32, 32)))
    head = usual.get_submodule("classifier")
    assert features.shape == (2, head.in_features)
    missing = set(usual.state_dict()) - set(net.state_dict())
    assert missing == {"classifier.weight", "classifier.bias"}


@ANY_SPACE
def test_build_refuses_strangers(space: Space) -> None:
    with pytest.raises(InvalidArch, match=space.name):
        space.build((-1,) * len(space.dimensions))


@ANY_SPACE
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_costs_are_those_of_the_network(space: Space, seed: int) -> None:
    """Random members, classes and resolutions, odd ones too where the space takes them."""
    rng = np.random.default_rng(seed)
    num_classes = int(rng.integers(2, 130))
    resolution = 2**space.halvings * int(rng.integers(8, 71) // 2**space.halvings)
    members = space.sample_many(3, rng)
    costs = space.costs(members, num_classes=num_classes, resolution=resolution)
    for place, arch in enumerate(map(tuple, members.tolist())):
        with torch.device("meta"):  # shapes only
            net = space.build(arch, num_classes=num_classes)
            images = torch.empty((1, 3, resolution, resolution))
        assert costs.params[place] == sum(weight.numel() for weight in net.parameters())
        with FlopCounterMode(display=False) as counter:
            net.eval()(images)  # a batch-norm in train mode refuses a single number
        # The counter has two operations per multiply-accumulate and leaves out the biases of the
        # classifier, which the benchmark counts as one multiply-accumulate each.
        assert costs.flops[place] == counter.get_total_flops() // 2 + num_classes


@ANY_SPACE
def test_a_resolution_that_does_not_fit_is_refused(space: Space) -> None:
    space.check_resolution(32)
    for resolution in (0, -32):
        with pytest.raises(NasError, match=f"resolution: networks of {space.name} halve"):
            space.check_resolution(resolution)
    if space.halvings:
        wrong = 32 + 2**space.halvings // 2
        with pytest.raises(NasError, match=rf"multiple of {2**space.halvings}, got {wrong}"):
            space.check_resolution(wrong)
        with torch.device("meta"):  # indeed
            net = space.build(draws(space)[0]).eval()
            with pytest.raises(RuntimeError, match=r"(?i)size|dimension"):
                net(torch.empty((1, 3, wrong, wrong)))


@ANY_SPACE
def test_layers_describe_a_graph(space: Space) -> None:
    members = population(space)[:50]
    graphs = list(space.layers(members))
    assert graphs
    for graph in graphs:
        assert graph.chosen.shape == (len(members), len(graph.edges))
        n_nodes = 1 + max(target for _, target in graph.edges)
        assert graph.widths.shape == (len(members), n_nodes)
        assert (graph.widths > 0).all()
        assert (graph.widths <= 1).all()
        assert all(source < target for source, target in graph.edges)
        assert ((graph.chosen >= 0) & (graph.chosen < len(graph.operations))).all()
        last = [e for e, (_, target) in enumerate(graph.edges) if target == n_nodes - 1]
        fed, _ = graph.reach()
        assert (graph.live()[:, last].any(axis=1) == fed[:, -1]).all()


@given(st.sampled_from([s for s in ALL.values() if isinstance(s, CellSpace)]), st.data())
def test_a_canonical_cell_has_no_dead_operation(space: CellSpace, data: st.DataObject) -> None:
    arch = data.draw(st.sampled_from(draws(space)))
    form = np.asarray([space.canonical(arch)])
    graph = space.graph(form)
    assert (graph.live() | graph.is_kind("none", "skip", "avg_pool")).all()

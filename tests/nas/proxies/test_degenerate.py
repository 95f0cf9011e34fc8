"""Every proxy on input that has little to say: a finite score or a reason, never NaN.

The cases are those of ``benchmarks/degenerate.py``, which makes a table of the answers. A new proxy
or space is asked by being in its table.
"""

import functools
from pathlib import Path

import pytest
import torch

from benchmarks.degenerate import FAULT, SPECS, Answer, Case, cases, of_module, worst_members
from nas.proxies import ProxySpec
from spaces import SPACES, Space

FAST = {
    "weights x 1e+30",
    "weights x nan",
    "a float16 network",
    "a network with maps of 1x1",
    "a network of 0 classes",
    "a network that lets nothing through",
    "resolution 1",
    "0 classes",
}


@functools.cache
def _folder() -> Path:
    import tempfile

    return Path(tempfile.mkdtemp(prefix="degenerate-"))


def _listed() -> list[object]:
    found = list(cases(_folder()))
    assert {case.name for case in found} >= FAST
    return [
        pytest.param(case, id=case.name, marks=() if case.name in FAST else pytest.mark.slow)
        for case in found
    ]


def faults(case: Case) -> dict[str, list[Answer]]:
    """Return the answers that are neither a number nor a reason that says something."""
    asked = {name: case.ask(spec) for name, spec in SPECS.items()}
    assert all(asked.values())
    return {
        name: found
        for name, found in asked.items()
        if any(isinstance(one, str) and (one.startswith(FAULT) or len(one) < 20) for one in found)
    }


@pytest.mark.parametrize("case", _listed())
def test_a_finite_score_or_a_reason(case: Case) -> None:
    assert faults(case) == {}


def test_a_fault_is_seen() -> None:
    class Breaks(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise KeyboardInterrupt if x.isnan().any() else MemoryError("not caught anywhere")

    assert len(faults(Case("breaks", of_module(Breaks, (3, 8, 8))))) == len(SPECS)


@pytest.mark.parametrize("name", SPECS)
def test_what_reads_the_weights_as_they_are_has_no_score_where_they_are_nan(name: str) -> None:
    """A count of signs would go on: NaN is neither positive nor not."""

    def spoilt() -> torch.nn.Module:
        from benchmarks.degenerate import scaled

        return scaled(float("nan"))

    (answer,) = of_module(spoilt, (3, 8, 8))(SPECS[name])
    spec = ProxySpec.parse(name)
    draws_its_own = spec.proxy.weights != "default" or name == "zen"
    if name not in ("params", "flops") and not draws_its_own:
        assert isinstance(answer, str), answer


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_a_space_has_members_with_little_to_say(space: Space) -> None:
    found = worst_members(space)
    assert found
    assert all(space.validate(arch) == arch for arch in found)

"""How fast spaces are scored, as ratios measured in one run: ``python benchmarks/speed.py``.

The reference is one network at a time as published scripts do it: build it, hook every module,
``torch.corrcoef`` and a general eigen-solver per hook call. It is timed on a sample and scaled to
the whole space; ours scores the whole space. The reference runs with one torch thread and with
torch's own choice, and the faster of the two counts. NAS-Bench-101 has too many cells for that: a
sample of them is scored together and one by one, both by our own code.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from nas.environment import environment
from nas.proxies import Conditions, ProxySpec, score_batch
from nas.proxies.routes import judge, judge_one_by_one
from spaces import SPACES, Arch, Space


def reference_seconds(space: Space, archs: list[Arch], channels: int | None) -> float:
    """Return the mean seconds per network of the reference form, at its best thread count."""
    image = torch.randn(1, 3, 32, 32)
    default = torch.get_num_threads()
    means = []
    try:
        for threads in sorted({1, default}):
            torch.set_num_threads(threads)
            times = []
            for arch in archs:
                began = time.perf_counter()
                _reference(space.build(arch), image, channels)
                times.append(time.perf_counter() - began)
            means.append(statistics.fmean(times))
    finally:
        torch.set_num_threads(default)
    return min(means)


def _reference(net: nn.Module, image: Tensor, channels: int | None) -> float:
    """Score one network as the published scripts do; ``channels`` is MeCo_opt's n."""
    total = 0.0

    def hook(module: nn.Module, args: object, output: Tensor) -> None:
        nonlocal total
        flat = output[0].detach().reshape(output.shape[1], -1)
        if flat.shape[1] < 2:
            return
        weight = 1.0
        if channels is not None:
            weight = flat.shape[0] / channels
            flat = flat[torch.randperm(flat.shape[0])[:channels]]
        matrix = torch.nan_to_num(torch.corrcoef(flat), 0.0, 0.0, 0.0)
        total += weight * float(torch.linalg.eigvals(matrix).real.min())

    handles = [module.register_forward_hook(hook) for module in net.modules()]
    with torch.no_grad():
        net.train()(image)
    for handle in handles:
        handle.remove()
    return total


def seconds_of(call: Callable[[], object], repeats: int) -> list[float]:
    """Return the wall times of several calls."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return times


def whole_space(name: str, proxy: str, sample: int, repeats: int) -> dict[str, object]:
    """Time a whole space by one proxy against the reference."""
    space = SPACES[name]
    rng = np.random.default_rng(0)
    drawn = [space.sample(rng) for _ in range(sample)]
    reference_seconds(space, drawn[:3], None)  # warm-up
    one = reference_seconds(space, drawn, 8 if proxy == "meco_opt" else None)
    archs = [tuple(row) for row in space.all().tolist()]
    spec = [ProxySpec.parse(proxy)]
    score_batch(space, spec, archs[:64], Conditions())  # warm-up
    times = seconds_of(lambda: score_batch(space, spec, archs, Conditions()), repeats)
    ours = statistics.median(times)
    ratio = one * len(space) / ours
    return {
        "what": f"all {len(space):,} of {name} by {proxy}, against one network at a time",
        "bar": ">= 60x",
        "ratio": ratio,
        "reference_seconds_per_arch": one,
        "reference_sample": sample,
        "seconds": times,
        "text": f"{ratio:.0f}x ({ours:.1f} s, {min(times):.1f}-{max(times):.1f} in {repeats} runs; "
        f"reference {1000 * one:.0f} ms per network, mean of {sample}, scaled)",
    }


def sampled(name: str, proxy: str, sample: int, references: int, repeats: int) -> dict[str, object]:
    """Time a sample of a space against the reference, where the space is too large for all."""
    space = SPACES[name]
    drawn = space.canonicalise(space.sample_many(sample, np.random.default_rng(0)))
    archs = [tuple(row) for row in np.unique(drawn, axis=0).tolist()]
    reference_seconds(space, archs[:1], None)  # warm-up
    one = reference_seconds(space, archs[:references], None)
    spec = [ProxySpec.parse(proxy)]
    score_batch(space, spec, archs[:8], Conditions())  # warm-up
    times = seconds_of(lambda: score_batch(space, spec, archs, Conditions()), repeats)
    ours = statistics.median(times) / len(archs)
    return {
        "what": f"{len(archs)} of {name} by {proxy}, against one network at a time",
        "bar": ">= 10x",
        "ratio": one / ours,
        "reference_seconds_per_arch": one,
        "reference_sample": references,
        "seconds": times,
        "text": f"{one / ours:.0f}x ({1000 * ours:.0f} ms per network, {repeats} runs; reference "
        f"{1000 * one:.0f} ms per network, mean of {references})",
    }


def together(name: str, proxy: str, sample: int, repeats: int) -> dict[str, object]:
    """Time a sample of a space, networks run together against one after the other."""
    space = SPACES[name]
    drawn = space.canonicalise(space.sample_many(sample, np.random.default_rng(0)))
    population = np.unique(drawn, axis=0)
    spec = [ProxySpec.parse(proxy)]
    many = lambda: judge(space, spec, population, Conditions())  # noqa: E731
    single = lambda: judge_one_by_one(space, spec, population, Conditions())  # noqa: E731
    seconds_of(many, 1), seconds_of(single, 1)  # warm-up
    ratios = []
    times: list[float] = []
    for _ in range(repeats):
        times += seconds_of(many, 1)
        ratios += [seconds_of(single, 1)[0] / times[-1]]
    per_arch = 1000 * statistics.median(times) / len(population)
    ratio = statistics.median(ratios)
    return {
        "what": f"{len(population)} of {name} by {proxy}, together against one by one",
        "bar": f">= {spec[0].gain(space)}x",
        "ratio": ratio,
        "ratios": ratios,
        "seconds": times,
        "text": f"{ratio:.1f}x ({min(ratios):.1f}-{max(ratios):.1f} in {repeats} runs; "
        f"{per_arch:.0f} ms per network)",
    }


def sed(repeats: int = 20) -> dict[str, object]:
    """Time SED on the whole topology space from a population array."""
    space = SPACES["nats_tss"]
    spec = ProxySpec.parse("sed")
    population = space.all()
    assert spec.proxy.population is not None
    score = spec.proxy.population
    call = lambda: score(space, population, Conditions(), spec.options)  # noqa: E731
    times = seconds_of(call, repeats + 1)[1:]
    median = statistics.median(times)
    return {
        "what": "all of nats_tss by sed, from a population array",
        "bar": "< 0.1 s",
        "seconds": times,
        "text": f"{median:.3f} s ({min(times):.3f}-{max(times):.3f} in {repeats} runs)",
    }


def main() -> None:
    """Measure, print a table, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--sample", type=int, default=200, help="networks timed as reference")
    parser.add_argument("--repeats", type=int, default=3, help="runs over each whole space")
    parser.add_argument("--only", default="", help="just the rows of this space")
    options = parser.parse_args()
    sample, repeats = options.sample, options.repeats
    measured: list[tuple[str, Callable[[], dict[str, object]]]] = [
        ("nats_tss", sed),
        ("nats_tss", lambda: whole_space("nats_tss", "meco", sample, repeats)),
        ("nats_sss", lambda: whole_space("nats_sss", "meco_opt", sample, repeats)),
        ("nasbench101", lambda: together("nasbench101", "meco", sample // 5, repeats)),
        ("darts", lambda: sampled("darts", "meco", 64, sample // 20, repeats)),
        ("darts", lambda: together("darts", "meco", 32, repeats)),
        ("transnas_macro", lambda: together("transnas_macro", "meco", 64, repeats)),
        ("transnas_macro", lambda: together("transnas_macro", "meco", 256, repeats)),
    ]
    rows = [measure() for space, measure in measured if options.only in ("", space)]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # KiB on Linux
    rows.append(
        {
            "what": "peak memory of this run",
            "bar": "< 2 GiB",
            "gib": peak,
            "text": f"{peak:.2f} GiB",
        }
    )
    for row in rows:
        sys.stdout.write(f"{row['what']}: {row['text']} (bar {row['bar']})\n")
    if options.json is not None:
        found = environment(seed=0)
        options.json.write_text(json.dumps({"rows": rows, "environment": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()

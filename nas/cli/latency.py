"""``nas latency``: time networks here, or fit the look-up table that answers for all of a space."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nas.cli.console import (
    Device,
    JsonTarget,
    NumClasses,
    Resolution,
    SpaceName,
    check_targets,
    emit_json,
    emit_table,
    guarded,
    note,
)
from spaces.errors import NasError

EXAMPLES = """\b
Examples:
  nas latency --space nats_sss 64:64:64:64:64 8:16:24:32:40
  nas latency --space nats_tss --fit edge.yaml       measure 64 networks, check on 16 more
  nas-search my.yaml latency=edge.yaml "constraints.latency_ms=<= 5"
"""


@guarded
def latency(
    archs: Annotated[
        list[str] | None, typer.Argument(help="Architectures, as the space writes them.")
    ] = None,
    space: SpaceName = "nats_tss",
    fit: Annotated[
        Path | None, typer.Option(help="Fit a look-up table, and write it to this file.")
    ] = None,
    sample: Annotated[int, typer.Option(min=4, help="Networks to fit to.")] = 64,
    check: Annotated[int, typer.Option(min=2, help="Further networks to check with.")] = 16,
    batch_size: Annotated[int, typer.Option(min=1, help="Images per forward pass.")] = 1,
    warm_up: Annotated[int, typer.Option(min=0, help="Passes before the first that counts.")] = 3,
    runs: Annotated[int, typer.Option(min=3, help="Passes that count.")] = 15,
    threads: Annotated[int, typer.Option(min=0, help="Of torch; 0 is torch's own choice.")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Which networks are fitted to.")] = 0,
    num_classes: NumClasses = 10,
    resolution: Resolution = 32,
    device: Device = "cpu",
    json_: JsonTarget = None,
) -> None:
    """Time networks on this machine: median and 95 % interval, in milliseconds.

    With --fit, random networks of the space are timed and a table per operation is fitted to them,
    which a search can ask about any architecture.
    """
    from nas.hardware.latency import MeasureOptions
    from nas.proxies.base import Conditions
    from nas.space_file import find_space

    check_targets(json_, fit)
    options = MeasureOptions(
        device=device, batch_size=batch_size, warm_up=warm_up, runs=runs, threads=threads
    )
    conditions = Conditions(num_classes=num_classes, resolution=resolution)
    if fit is not None:
        if archs:
            raise NasError("--fit draws its own networks; leave out the architectures")
        from dataclasses import asdict

        from nas.hardware.lookup import fit_lookup

        fitted = fit_lookup(
            find_space(space), conditions, options, fit_on=sample, check_on=check, seed=seed,
        )  # fmt: skip
        fitted.save(fit)
        if json_ is not None:
            emit_json({"file": str(fit), "name": fitted.name, **asdict(fitted.error)}, json_)
        if json_ != "-":
            typer.echo(
                f"{fit}: {fitted.name}; worst {fitted.error.worst_percent:.1f} %, "
                f"Spearman {fitted.error.spearman:.3f}"
            )
        return
    if not archs:
        raise NasError("name an architecture to time, or --fit FILE for a look-up table")
    _measure(space, archs, options, conditions, json_)


def _measure(
    space: str, archs: list[str], options: object, conditions: object, json_: str | None
) -> None:
    from dataclasses import asdict

    from nas.hardware.latency import MeasureOptions, measure_latency
    from nas.proxies.base import Conditions
    from nas.space_file import find_space

    assert isinstance(options, MeasureOptions)
    assert isinstance(conditions, Conditions)
    where = find_space(space)
    where.check_resolution(conditions.resolution)
    parsed = [where.from_str(text) for text in archs]
    shape = (3, conditions.resolution, conditions.resolution)
    rows = []
    for text, arch in zip(archs, parsed, strict=True):
        net = where.build(arch, num_classes=conditions.num_classes)
        rows.append({"arch": text, **asdict(measure_latency(net, shape, options))})
    if json_ is not None:
        emit_json(rows, json_)
    if json_ != "-":
        texts = [
            [f"{row['median_ms']:.3f}", f"{row['low_ms']:.3f} to {row['high_ms']:.3f}", row["arch"]]
            for row in rows
        ]
        emit_table(["ms", "95 % interval", "architecture"], texts)
        first = rows[0]
        note(
            f"batch of {first['batch_size']} on {first['device']}, {first['threads']} threads, "
            f"median of {first['runs']} runs after {options.warm_up}"
        )

"""Which source of latencies a text names."""

from __future__ import annotations

from pathlib import Path

from nas.hardware.latency import Latency
from nas.hardware.lookup import LookupLatency
from nas.hardware.measured import MeasuredLatency
from nas.hardware.table import TableLatency
from spaces import NasError, Space

MEASURE = "measure"


def latency_source(given: str | Latency | None, space: Space) -> Latency | None:
    """Return the source that is named, or given.

    Args:
        given: ``"measure"``, ``"FILE.csv:COLUMN"``, ``"FILE.yaml"``, or a source.
        space: Whose architectures it will be asked about.

    Raises:
        NasError: None of those, or the file cannot be read.
    """
    if given is None or not isinstance(given, str):
        return given
    if given == MEASURE:
        return MeasuredLatency()
    if given.endswith((".yaml", ".yml")):
        return LookupLatency.load(Path(given))
    if ":" in given:
        return TableLatency(given, space)
    raise NasError(
        f"latency: expected 'measure', a table's 'FILE.csv:COLUMN' or the 'FILE.yaml' of a look-up "
        f"table, got {given!r}"
    )

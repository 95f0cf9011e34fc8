"""Tabulated truth: what architectures reached when somebody trained them.

:mod:`~nas.benchmark.table` reads plain CSV tables and hands out one view for searching (validation
accuracy) and another for reporting (test accuracy); :mod:`~nas.benchmark.nats` reads the official
NATS-Bench archives and imports them into such a table.
"""

from nas.benchmark.columns import DATASETS, Measure, NotMeasured, parse_column
from nas.benchmark.nats import ImportedTable, NatsArchive, import_archive, open_archive
from nas.benchmark.table import (
    Table,
    TestView,
    Truth,
    ValidationView,
    parse_truth,
    parse_truths,
    read_table,
)
from nas.benchmark.unpickle import UnreadablePickle, UnsafePickle, load_pickle

__all__ = [
    "DATASETS",
    "ImportedTable",
    "Measure",
    "NatsArchive",
    "NotMeasured",
    "Table",
    "TestView",
    "Truth",
    "UnreadablePickle",
    "UnsafePickle",
    "ValidationView",
    "import_archive",
    "load_pickle",
    "open_archive",
    "parse_column",
    "parse_truth",
    "parse_truths",
    "read_table",
]

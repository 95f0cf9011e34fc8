"""Facts of the benchmarks: official order, strings, parameters and FLOPs of every member."""

from collections.abc import Callable

import numpy as np

from spaces import NATS_SSS, NATS_TSS, SPACES, TRANSNAS_MICRO, Space

Rows = list[dict[str, str]]
ReadRows = Callable[[str], Rows]

#: Column suffix, classes, pixels.
DATA_SETS = (("c10", 10, 32), ("c100", 100, 32), ("in16", 120, 16))

# index, string, then parameters and FLOPs in millions for CIFAR-10, CIFAR-100, ImageNet16-120
TSS_ROWS = """
0 |avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|
  0.129306 15.647370 0.135156 15.653220 0.136456 3.919480
11 |nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|none~0|nor_conv_3x3~1|avg_pool_3x3~2|
  0.802426 113.951370 0.808276 113.957220 0.809576 28.495480
284 |skip_connect~0|+|skip_connect~0|skip_connect~1|+|none~0|nor_conv_1x1~1|none~2|
  0.101306 11.715210 0.107156 11.721060 0.108456 2.936440
857 |nor_conv_1x1~0|+|nor_conv_1x1~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|
  0.858426 121.815690 0.864276 121.821540 0.865576 30.461560
6111 |nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_1x1~2|
  1.073466 153.272970 1.079316 153.278820 1.080616 38.325880
15624 |nor_conv_1x1~0|+|none~0|nor_conv_1x1~1|+|none~0|nor_conv_1x1~1|nor_conv_1x1~2|
  0.185306 23.511690 0.191156 23.517540 0.192456 5.885560
"""

# index, string, then parameters and FLOPs for the same
SSS_ROWS = """
0 8:8:8:8:8          11714 4481114 12524 4481924 12704 1121336
11 8:8:8:16:32       49202 6840650 52172 6843620 52832 1714040
284 8:8:40:32:40     144834 21827994 148524 21831684 149344 5461816
6111 16:32:64:32:64  357754 65651338 363604 65657188 364904 16420472
32767 64:64:64:64:64 713674 274399882 719524 274405732 720824 68607608
"""


def test_sizes() -> None:
    assert {name: len(space) for name, space in SPACES.items()} == {
        "nats_tss": 15_625,
        "nats_sss": 32_768,
        "transnas_micro": 4_096,
        "transnas_macro": 3_256,
        "nasbench101": 423_624,
        "darts": 1_076_746_950_455_072_400,
    }


def committed(text: str, unit: str) -> Rows:
    """Return the rows above in the form of the tables."""
    columns = ["index", "arch"]
    for name, _, _ in DATA_SETS:
        columns += [f"params_{unit}{name}", f"flops_{unit}{name}"]
    words = text.split()
    width = len(columns)
    return [
        dict(zip(columns, words[i : i + width], strict=True)) for i in range(0, len(words), width)
    ]


def check(space: Space, rows: Rows, unit: str, scale: float) -> None:
    """Compare order, strings and costs with rows of a table, to the last digit that it has."""
    indices = [int(row["index"]) for row in rows]
    archs = [space.from_str(row["arch"]) for row in rows]
    assert [space.at(index) for index in indices] == archs
    assert [space.index(arch) for arch in archs] == indices
    assert [space.to_str(arch) for arch in archs] == [row["arch"] for row in rows]
    for name, num_classes, resolution in DATA_SETS:
        costs = space.costs(np.asarray(archs), num_classes=num_classes, resolution=resolution)
        for what, ours in (("params", costs.params), ("flops", costs.flops)):
            theirs = np.asarray([float(row[f"{what}_{unit}{name}"]) for row in rows])
            assert ours.dtype == np.int64
            assert (ours == np.rint(theirs * scale)).all(), (what, name)


def test_committed_rows_of_the_topology_space() -> None:
    check(NATS_TSS, committed(TSS_ROWS, "M_"), "M_", 1e6)


def test_committed_rows_of_the_size_space() -> None:
    check(NATS_SSS, committed(SSS_ROWS, ""), "", 1)


def test_every_row_of_the_topology_space(read_rows: ReadRows) -> None:
    rows = read_rows("nats_tss")
    assert [int(row["index"]) for row in rows] == list(range(len(NATS_TSS)))
    check(NATS_TSS, rows, "M_", 1e6)


def test_every_row_of_the_size_space(read_rows: ReadRows) -> None:
    rows = read_rows("nats_sss")
    assert [int(row["index"]) for row in rows] == list(range(len(NATS_SSS)))
    check(NATS_SSS, rows, "", 1)


def test_strings_of_transnas() -> None:
    assert TRANSNAS_MICRO.from_str("64-41414-1_23_301") == (1, 2, 3, 3, 0, 1)
    assert TRANSNAS_MICRO.to_str((1, 2, 3, 3, 0, 1)) == "64-41414-1_23_301"


def test_every_string_of_transnas(read_rows: ReadRows) -> None:
    texts = [row["arch"] for row in read_rows("transnas_micro")]
    archs = [TRANSNAS_MICRO.from_str(text) for text in texts]
    assert [TRANSNAS_MICRO.to_str(arch) for arch in archs] == texts
    assert set(archs) == {tuple(row) for row in TRANSNAS_MICRO.all().tolist()}
    assert len(archs) == len(TRANSNAS_MICRO)

"""One protocol for searches and trainings: who listens hears the same numbers as the result has."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import nas
from nas.callbacks import RunInfo, SearchLog, check_callback, log_epoch
from nas.cli.console import callbacks_of
from nas.training.loop import Epoch
from spaces.errors import NasError

CHECKOUT = Path(__file__).resolve().parents[2]
CONV = "|nor_conv_1x1~0|+|none~0|none~1|+|none~0|none~1|nor_conv_1x1~2|"


class Heard(nas.Callback):
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.runs: list[RunInfo] = []
        self.rows: list[tuple[str, int, dict[str, float]]] = []
        self.ends: list[Mapping[str, Any]] = []

    def start(self, run: RunInfo) -> None:
        self.runs.append(run)

    def log(self, values: Mapping[str, float], step: int, series: str = "") -> None:
        self.rows.append((series, step, dict(values)))

    def end(self, summary: Mapping[str, Any]) -> None:
        self.ends.append(summary)


class Tried:
    """A trial with what a callback looks at."""

    def __init__(self, best: float | None, seconds: float, error: str | None = None) -> None:
        self.best, self.seconds, self.error, self.cached = best, seconds, error, seconds == 0


def test_a_search_is_told_batch_by_batch() -> None:
    heard = Heard()
    log = SearchLog([heard], RunInfo("search", "x", {}), batch=2)
    for trial in (Tried(None, 0.25, "no"), Tried(None, 0.25, "no"), Tried(3.0, 0.5)):
        log(trial)
    log(Tried(3.0, 0.0))  # known before: it says nothing of the rate
    log(Tried(4.0, 1.0))
    log.end({"n_trials": 5})
    assert heard.rows == [
        ("", 2, {"failed": 2.0, "per_second": 4.0}),
        ("", 4, {"failed": 2.0, "per_second": 3.0, "best": 3.0}),
        ("", 5, {"failed": 2.0, "per_second": 2.0, "best": 4.0}),
    ]
    assert heard.ends == [{"n_trials": 5}]


def test_searcher_and_callback_agree() -> None:
    heard = Heard()
    searcher = nas.Searcher(space="nats_sss", proxy="params", budget=10, batch=4)
    result = searcher.run(callbacks=[heard])
    assert [(run.kind, run.name) for run in heard.runs] == [("search", "params on nats_sss")]
    assert [step for _, step, _ in heard.rows] == [4, 8, 10]
    assert heard.rows[-1][2]["best"] == result.best.score
    (summary,) = heard.ends
    assert summary["best"] == {"arch": result.best.text, "score": result.best.score}


def test_what_a_callback_raises_ends_the_run() -> None:
    class Broken(nas.Callback):
        def log(self, values: Mapping[str, float], step: int, series: str = "") -> None:
            raise RuntimeError("tracker is gone")

    with pytest.raises(RuntimeError, match="tracker is gone"):
        nas.Searcher(space="nats_sss", proxy="params", budget=4).run(callbacks=[Broken()])


def test_an_epoch_without_a_look_at_validation_images_has_no_such_numbers() -> None:
    heard = Heard()
    epoch = Epoch(
        number=3,
        learning_rate=0.1,
        train_loss=2.0,
        train_accuracy=50.0,
        validation_loss=None,
        validation_accuracy=None,
        seconds=1.0,
    )
    log_epoch([heard], "0-seed1", epoch)
    log_epoch([heard], "0-seed1", None)  # in the middle of an epoch
    values = {"learning_rate": 0.1, "loss/train": 2.0, "accuracy/train": 50.0}
    assert heard.rows == [("0-seed1", 3, values)]


@pytest.mark.slow
def test_a_training_is_told_epoch_by_epoch(tmp_path: Path) -> None:
    heard = Heard()
    settings = {"epochs": 2, "data": {"name": "digits", "limit": 4}, "split": 10, "batch": 8}
    training = nas.train(CONV, "train_digits", settings, folder=tmp_path / "t", callbacks=[heard])
    assert [(run.kind, run.name) for run in heard.runs] == [("training", "train_digits")]
    assert [(series, step) for series, step, _ in heard.rows] == [("0-seed0", 1), ("0-seed0", 2)]
    assert {"learning_rate", "loss/train", "accuracy/train"} <= set(heard.rows[0][2])
    assert heard.ends == [training.summary]


def test_a_callback_on_the_command_line_is_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my_tracker.py").write_text("import nas\nclass Mine(nas.Callback): ...\nother = 3\n")
    (found,) = callbacks_of("my_tracker:Mine", False, tmp_path)
    assert isinstance(found, nas.Callback)
    with pytest.raises(
        NasError, match=r"expected an object with the methods of nas\.Callback, got "
    ):
        callbacks_of("my_tracker:other", False, tmp_path)
    with pytest.raises(NasError, match="int without start, log, end"):
        check_callback(3, "x")


def test_a_search_writes_scalars_for_tensorboard(tmp_path: Path) -> None:
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    from nas.callbacks import TensorBoard

    searcher = nas.Searcher(space="nats_sss", proxy="params", budget=10, batch=5)
    result = searcher.run(callbacks=[TensorBoard(tmp_path)])
    read = events.EventAccumulator(str(tmp_path))
    read.Reload()
    assert [event.step for event in read.Scalars("best")] == [5, 10]
    assert read.Scalars("best")[-1].value == result.best.score
    assert {"best", "failed", "per_second"} <= set(read.Tags()["scalars"])

"""Scalars of trainings for TensorBoard."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from spaces.errors import NasError

if TYPE_CHECKING:
    from nas.training.loop import Step


class Scalars:
    """Writes one row of scalars per epoch, each job's into a folder of its own."""

    def __init__(self, folder: Path) -> None:
        """Check that TensorBoard is there.

        Args:
            folder: Where event files go.

        Raises:
            NasError: TensorBoard is not installed.
        """
        try:
            from torch.utils.tensorboard import SummaryWriter  # late and optional
        except ImportError:
            raise NasError("--tensorboard needs TensorBoard: pip install tensorboard") from None
        self._make = SummaryWriter
        self._folder = folder
        self._writers: dict[str, Any] = {}

    def __call__(self, job: str, step: Step) -> None:
        """Take one more step of a job into account."""
        if step.done is None:
            return
        if job not in self._writers:
            self._writers[job] = self._make(str(self._folder / job))
        writer, epoch = self._writers[job], step.done
        values = {
            "learning rate": epoch.learning_rate,
            "loss/train": epoch.train_loss,
            "loss/validation": epoch.validation_loss,
            "accuracy/train": epoch.train_accuracy,
            "accuracy/validation": epoch.validation_accuracy,
        }
        for name, value in values.items():
            if value is not None:
                writer.add_scalar(name, value, epoch.number)
        writer.flush()  # a person watches

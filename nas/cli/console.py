"""What all commands share: how they fail, warn, and print tables and JSON."""

from __future__ import annotations

import functools
import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec, TypeAlias, TypeVar

import typer

from nas.cli.stopping import ended, stoppable
from spaces.errors import NasError

if TYPE_CHECKING:
    from nas.callbacks import Callback

P = ParamSpec("P")
T = TypeVar("T")

JsonTarget: TypeAlias = Annotated[
    str | None,
    typer.Option("--json", metavar="PATH|-", help="Write JSON; '-' is standard output."),
]


def guarded(command: Callable[P, T]) -> Callable[P, T]:
    """Make a command end with one message and an exit code where a user could cause the failure."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            with stoppable(), warnings.catch_warnings():
                warnings.showwarning = _one_line
                return command(*args, **kwargs)
        except NasError as error:
            note(str(error))
            raise typer.Exit(2) from None
        except BrokenPipeError:  # who reads the output has seen enough; typer ends it quietly
            raise
        except OSError as error:  # a full disk, a folder that is not ours: no fault of the code
            if error.errno is None:
                raise
            where = (
                f"{error.filename}: " if error.filename else "a file cannot be written or read: "
            )
            note(f"{where}{error.strerror}; what was written before is kept")
            raise typer.Exit(2) from None
        except KeyboardInterrupt as stopped:
            note("interrupted")
            raise ended(stopped) from None

    return run


def _one_line(message: Warning | str, *_: object, **__: object) -> None:
    note(f"warning: {' '.join(str(message).split())}")


def note(text: str) -> None:
    """Write a line for a person to standard error."""
    typer.echo(text, err=True)


def emit_json(value: object, target: str) -> None:
    """Write ``value`` as JSON to a file, or to standard output for ``-``."""
    from nas.runs.folder import as_json

    write_file(as_json(value), target)


def write_file(text: str, target: str) -> None:
    """Write a text to a file, or to standard output for ``-``."""
    if target == "-":
        typer.echo(text, nl=False)
        return
    try:
        Path(target).write_text(text, encoding="utf-8")
    except OSError as error:
        raise NasError(f"{target}: cannot write: {error.strerror}") from None


def check_targets(*targets: str | Path | None) -> None:
    """Refuse what cannot be written to, before the work whose result goes there."""
    for target in targets:
        if target is None or str(target) == "-":
            continue
        if Path(target).is_dir():
            raise NasError(f"{target}: cannot write: it is a folder")
        if not Path(target).absolute().parent.is_dir():
            raise NasError(f"{target}: cannot write: no such folder")


def emit_table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write aligned columns to standard output.

    Columns are aligned to the right but for the last, which is never cut or folded, so that an
    architecture can be copied from it however narrow the terminal is.
    """
    lines = [headers, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(headers) - 1)]
    for number, line in enumerate(lines):
        cells = [cell.rjust(width) for cell, width in zip(line, widths, strict=False)]
        text = "  ".join([*cells, line[-1]])
        typer.echo(typer.style(text, bold=True) if number == 0 and sys.stdout.isatty() else text)


def split_proxies(texts: Iterable[str]) -> list[str]:
    """Return the proxies named by ``--proxy`` options, each of which may name several.

    Names are separated by commas, and so are the options of one proxy: after a comma, a part with
    ``=`` and no ``:`` before it is one more option of the proxy before it, anything else is the
    next proxy. ``meco:hooks=reference,channels=8,sed`` is two proxies.

    Raises:
        NasError: An empty part, or an option before any proxy.
    """
    from nas.proxies.base import split_outside  # late, as all that a command needs

    proxies: list[str] = []
    for text in texts:
        first = len(proxies)
        for part in split_outside(text):
            is_option = "=" in part and ":" not in part.partition("=")[0]
            if not part.strip() or (is_option and len(proxies) == first):
                raise NasError(
                    f"--proxy: expected names such as meco,sed or meco:hooks=reference, "
                    f"got {text!r}"
                )
            if is_option:
                colon = "," if ":" in proxies[-1] else ":"
                proxies[-1] += f"{colon}{part.strip()}"
            else:
                proxies.append(part.strip())
    return proxies


def callbacks_of(own: str | None, tensorboard: bool, folder: Path) -> list[Callback]:
    """Return what hears of a run: a callback of the user's own, and TensorBoard.

    Args:
        own: ``package.module:callable``.
        tensorboard: Whether scalars are written, to ``tensorboard/`` in the run folder.
        folder: The run folder.

    Raises:
        NasError: One cannot be had.
    """
    from nas.callbacks import TensorBoard, check_callback
    from nas.own import own_object

    found = [] if own is None else [check_callback(own_object(own, "--callback", 0), own)]
    return [*found, *([TensorBoard(folder / "tensorboard")] if tensorboard else [])]


def conditions_from(**settings: Any) -> Any:  # noqa: ANN401 - Conditions, which is imported late
    """Return the conditions that a command's options ask for."""
    from nas.environment import check_device
    from nas.proxies.base import Conditions

    check_device(settings["device"])
    return Conditions(**settings)


Tensorboard: TypeAlias = Annotated[
    bool, typer.Option("--tensorboard", help="Write scalars to the run folder's tensorboard/.")
]
CallbackName: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--callback",
        metavar="MODULE:NAME",
        help="A nas.Callback of your own that hears of the run, by package.module:callable.",
    ),
]
SpaceName: TypeAlias = Annotated[
    str, typer.Option("--space", help="Where the architectures live; see `nas list`.")
]
ProxyNames: TypeAlias = Annotated[
    list[str],
    typer.Option(
        "--proxy",
        help="Names separated by commas, or the option repeated. Options follow a colon: "
        "meco:hooks=reference,channels=8,sed is two proxies, for a part with '=' belongs to "
        "the name before it.",
    ),
]
NumClasses: TypeAlias = Annotated[int, typer.Option(help="Width of the classifier.")]
Resolution: TypeAlias = Annotated[int, typer.Option(help="Height and width of the image, pixels.")]
Repeats: TypeAlias = Annotated[int, typer.Option(help="Draws of weights and image per score.")]
Images: TypeAlias = Annotated[
    str | None, typer.Option(help="File of images to score on; random noise when left out.")
]
Minibatch: TypeAlias = Annotated[
    int, typer.Option(min=2, help="Images at a time, for proxies that read more than one.")
]
Dtype: TypeAlias = Annotated[str, typer.Option(help="float32 or float64.")]
Device: TypeAlias = Annotated[str, typer.Option(help="cpu, cuda, cuda:N or mps.")]
WorkerCount: TypeAlias = Annotated[
    int, typer.Option("--workers", min=0, help="Processes that score; 0 is this one.")
]
ExecutorName: TypeAlias = Annotated[
    str, typer.Option("--executor", help="Who they are: processes, ray, or ray://HOST:PORT.")
]

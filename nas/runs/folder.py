"""A folder that one run fills, and that the same recipe finds again when the run was interrupted.

Every kind of run (a search, a final training) keeps its resolved recipe in ``recipe.yaml``, what it
ran on in ``environment.json``, and writes ``result.json`` last: with it the run is complete. One
process at a time holds a folder.
"""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar

import filelock

from nas import plain_yaml
from nas.environment import environment
from nas.writing import write_whole
from spaces.errors import NasError

RECIPE, ENVIRONMENT, RESULT = "recipe.yaml", "environment.json", "result.json"


class Resolvable(Protocol):
    """A recipe, as far as its folder is concerned."""

    name: Any  # a text; Any, for a frozen model may not be assigned to

    def to_yaml(self) -> str:
        """Return every setting as a file that can be run again."""


R = TypeVar("R", bound=Resolvable)


class Folder(Generic[R]):
    """The folder of one run, held by one process at a time.

    Attributes:
        what: The kind of run, in a message.
        header: First lines of ``recipe.yaml``.
        free: Keys of the recipe that say how a run is done, and change nothing of what comes out.
        repeatable: Whether a complete run may be run again in place, which costs it nothing.
        path: The folder.
        recipe: The resolved recipe.
        resumed: Whether the folder was there before.
        environment: What this process runs on, from :meth:`begin` on.
    """

    what: ClassVar[str]
    header: ClassVar[str]
    free: ClassVar[tuple[str, ...]] = ()
    repeatable: ClassVar[bool] = False

    def __init__(self, path: Path, recipe: R, *, resumed: bool, held: bool = True) -> None:
        self.path = path
        self.recipe = recipe
        self.resumed = resumed
        self.environment: dict[str, Any] = {}
        self._lock = filelock.FileLock(path / ".lock")
        if not held:  # another process holds it for this one
            return
        try:
            self._lock.acquire(timeout=0)
        except filelock.Timeout:
            raise NasError(f"{path}: another process is running this {self.what}") from None
        except OSError as error:
            raise NasError(f"{path}: cannot write into the folder: {error.strerror}") from None

    def close(self) -> None:
        """Let another process have the folder."""
        self._lock.release()

    def write(self, name: str, text: str) -> None:
        """Write a file whole or not at all."""
        kept = "what was there before is kept, and the same command goes on from it"
        write_whole(self.path / name, text, kept)

    def begin(self, *, device: str, seed: int) -> None:
        """Write what is known before the run."""
        (self.path / RESULT).unlink(missing_ok=True)  # complete again when the run is
        self.write(RECIPE, self.header + self.recipe.to_yaml())
        self.environment = environment(device=device, seed=seed)
        self.write(ENVIRONMENT, as_json(self.environment))

    @classmethod
    def is_of(cls, path: Path, recipe: R) -> bool:
        """Tell whether a folder holds a run of exactly this recipe, but for what is free."""
        try:
            text = (path / RECIPE).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return False
        own = cls.header + recipe.to_yaml()
        return text == own or (bool(cls.free) and cls._settled(text) == cls._settled(own))

    @classmethod
    def _settled(cls, text: str) -> object:
        """Return what a recipe says of what comes out; its text, where it is no mapping."""
        try:
            values = plain_yaml.parse(text, RECIPE).value
        except plain_yaml.YamlError:
            return text
        if not isinstance(values, dict):
            return text
        return {key: value for key, value in values.items() if key not in cls.free}

    @classmethod
    def is_unfinished(cls, path: Path, recipe: R) -> bool:
        """Tell whether a folder holds an interrupted run of exactly this recipe."""
        return not (path / RESULT).exists() and cls.is_of(path, recipe)

    @classmethod
    def open_named(cls, recipe: R, path: Path) -> Self:
        """Return the folder at ``path``, new, empty, or with an interrupted run of this recipe.

        Raises:
            NasError: It holds something else, or cannot be made.
        """
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise NasError(f"{path}: cannot make the run folder: {error.strerror}") from None
        if cls.is_of(path, recipe) if cls.repeatable else cls.is_unfinished(path, recipe):
            return cls(path, recipe, resumed=True)
        if cls.is_of(path, recipe):
            raise NasError(
                f"{path}: this {cls.what} is there already, complete; name a new folder to run it "
                "once more"
            )
        # A run that was killed before it wrote anything has left its lock.
        if any(not each.name.startswith(".") for each in path.iterdir()):
            raise NasError(
                f"{path}: holds something else already; name an empty or new folder, "
                f"or go on with a run in it by --resume {path}"
            )
        return cls(path, recipe, resumed=False)

    @classmethod
    def open_new(cls, recipe: R, parent: Path, *, fresh: bool = False) -> Self:
        """Return a folder in ``parent``: of an interrupted run of this recipe, or a new one.

        Args:
            recipe: What will be run.
            parent: Where run folders are made.
            fresh: Do not go on with an interrupted run.

        Raises:
            NasError: It cannot be made.
        """
        if not fresh:
            for path in sorted(parent.glob(f"*-{recipe.name}*/{RECIPE}"), reverse=True):
                if cls.is_unfinished(path.parent, recipe):
                    try:
                        return cls(path.parent, recipe, resumed=True)
                    except NasError:  # another process is at it, so this one starts anew
                        continue
        stamp = datetime.datetime.now().astimezone().strftime("%Y-%m-%d_%H%M%S")
        for attempt in range(1, 1000):
            path = parent / f"{stamp}-{recipe.name}{f'-{attempt}' if attempt > 1 else ''}"
            try:
                path.mkdir(parents=True)
            except FileExistsError:
                continue
            except OSError as error:
                raise NasError(f"{path}: cannot make the run folder: {error.strerror}") from None
            return cls(path, recipe, resumed=False)
        raise NasError(f"{parent}: cannot find an unused name for the run folder")


def as_json(value: object) -> str:
    """Return readable JSON; NaN and infinity are refused, for they are no JSON."""
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"

"""The durable score cache: one SQLite file that several processes may use at once.

A key says everything that a score depends on (see :class:`nas.oracle.Oracle`), so a row never
changes and never goes stale; it is only ever added. That is what makes resume a replay: a search
that was killed asks the same questions again and finds the answers here.

On a local disk the file is in WAL mode: readers do not wait for a writer. WAL needs memory that the
processes share, so on a disk of another machine the file is in SQLite's older mode, which needs
nothing but locks, and is slower.
"""

from __future__ import annotations

import math
import os
import sqlite3
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import RLock
from types import TracebackType
from typing import Self

from spaces.errors import NasError

APPLICATION_ID = 0x4E415353  # "NASS" in the file's header: this file is ours
SCHEMA = 1
BUSY_SECONDS = 30.0  # how long a process waits for another one's transaction
_CACHE_KIB = 65_536  # of memory for pages of the file
_LOG_PAGES = 16_384  # of 4 KiB
_VARIABLES = 500  # values per SELECT; old SQLite builds allow 999

#: File systems on disks of other machines, as Linux names them; those in user space count, too.
_SHARED = {
    *("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "lustre", "gpfs", "beegfs"),
    *("glusterfs", "ocfs2", "gfs2", "pvfs2", "orangefs", "virtiofs"),
}

_TABLE = """
CREATE TABLE scores (
    key TEXT PRIMARY KEY,  -- sha256, hexadecimal
    value REAL,            -- IEEE double, exactly the proxy's value
    reason TEXT,           -- why there is no value
    CHECK ((value IS NULL) <> (reason IS NULL))
) WITHOUT ROWID
"""


class _Damaged(Exception):
    """A file of ours that does not hold what we wrote."""


class Store:
    """A score cache in a file: ``get_many`` and ``put_many``, one transaction each.

    The file and its folder are made when they are missing. Safe for several processes and
    threads, and across a fork. A store that was closed connects again when it is next used.
    """

    def __init__(self, path: str | os.PathLike[str], *, shared_disk: bool | None = None) -> None:
        """Open or make the file.

        Args:
            path: The file; by custom ``scores.sqlite`` in a run folder.
            shared_disk: Whether its disk is one of another machine; None looks it up (on Linux;
                elsewhere it is taken for a local one).

        Raises:
            NasError: The file belongs to another program, is damaged, was written by a newer
                version, or cannot be made here.
        """
        self.path = Path(path)
        self._shared_disk = is_on_shared_disk(self.path) if shared_disk is None else shared_disk
        self._lock = RLock()
        self._connection: sqlite3.Connection | None = None
        self._finalizer: weakref.finalize[..., Store] | None = None
        self._pid = os.getpid()
        with self._lock, self._errors():
            self._connected()

    def __repr__(self) -> str:
        return f"<store {str(self.path)!r}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __len__(self) -> int:
        with self._lock, self._errors():
            row = self._connected().execute("SELECT count(*) FROM scores").fetchone()
        return int(row[0])

    def get_many(self, keys: Sequence[str]) -> dict[str, float | str]:
        """Return what is known: a score as ``float``, the reason of a failure as ``str``."""
        found: dict[str, float | str] = {}
        with self._lock, self._errors():
            for start in range(0, len(keys), _VARIABLES):
                some = keys[start : start + _VARIABLES]
                marks = ",".join("?" * len(some))
                rows = self._connected().execute(
                    f"SELECT key, value, reason FROM scores WHERE key IN ({marks})", some
                )
                found.update((key, _verdict(value, reason)) for key, value, reason in rows)
        return found

    def put_many(self, verdicts: Mapping[str, float | str]) -> dict[str, float | str]:
        """Add verdicts in one transaction and return what the file holds for their keys.

        The first writer of a key wins. Two processes may score one architecture at the same
        time and differ in the last bit (another number of threads); both then go on with the
        value in the file, so that a replay sees what they saw.

        Args:
            verdicts: By key, a finite ``float``, or the reason of a failure as ``str``.

        Raises:
            ValueError: A value is not finite: a failure needs a reason, not a number.
        """
        rows: list[tuple[str, float | None, str | None]] = []
        for key, verdict in verdicts.items():
            if isinstance(verdict, str):
                rows.append((key, None, verdict))
            elif math.isfinite(verdict):
                rows.append((key, float(verdict), None))
            else:
                raise ValueError(f"the score of {key} must be finite, got {verdict!r}")
        if not rows:
            return {}
        with self._lock, self._errors():
            connection = self._connected()
            with _transaction(connection):
                before = connection.total_changes
                # not OR IGNORE, which would also skip what breaks the CHECK
                connection.executemany(
                    "INSERT INTO scores VALUES (?, ?, ?) ON CONFLICT (key) DO NOTHING", rows
                )
                added = connection.total_changes - before
            if added == len(rows):
                return dict(verdicts)
            return self.get_many([key for key, _, _ in rows])

    def check(self) -> tuple[int, int]:
        """Read the whole file; return how many rows it holds, and how many are failures.

        Raises:
            NasError: Some of it is damaged.
        """
        with self._lock, self._errors():
            connection = self._connected()
            told = str(connection.execute("PRAGMA integrity_check(1)").fetchone()[0])
            if told != "ok":
                raise _Damaged(told)
            rows = failed = 0
            for value, reason in connection.execute("SELECT value, reason FROM scores"):
                rows += 1
                failed += isinstance(_verdict(value, reason), str)
        return rows, failed

    def close(self) -> None:
        """Close the connection; the last process to do so folds the log into the file."""
        with self._lock:
            if self._finalizer is not None and self._pid == os.getpid():
                self._finalizer()
            self._finalizer = None
            self._connection = None

    def _connected(self) -> sqlite3.Connection:
        if self._connection is not None and self._pid == os.getpid():
            return self._connection
        if self._finalizer is not None:  # we are the child of a fork: the connection is not ours
            self._finalizer.detach()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # isolation_level None: no transaction begins unless this file says so
        connection = sqlite3.connect(
            self.path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        self._pid = os.getpid()
        self._connection = connection
        # Python 3.13 warns of a connection that is collected while it is open
        self._finalizer = weakref.finalize(self, connection.close)
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        with _transaction(connection, "DEFERRED"):  # another process may be making it
            empty = self._is_empty(connection)  # before anything is written to what is not ours
        _use_journal(connection, "DELETE" if self._shared_disk else "WAL")
        connection.execute("PRAGMA trusted_schema = OFF")  # nor what a column's default calls
        # Keys come in no order, so a batch touches a page for nearly every row: they are kept
        # in memory, and copied out of the log when many batches have changed them.
        connection.execute(f"PRAGMA cache_size = {-_CACHE_KIB}")
        connection.execute(f"PRAGMA wal_autocheckpoint = {_LOG_PAGES}")
        # NORMAL: a killed process loses nothing, for the log is in the system's hands; a power
        # cut may lose the last batches, which are scored again. FULL would wait for the disk at
        # every batch and buy only that. Without WAL, NORMAL may damage the file.
        connection.execute(f"PRAGMA synchronous = {'FULL' if self._shared_disk else 'NORMAL'}")
        if empty:
            with _transaction(connection):
                if self._is_empty(connection):  # another process may have been faster
                    connection.execute(_TABLE)
                    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                    connection.execute(f"PRAGMA user_version = {SCHEMA}")

    def _is_empty(self, connection: sqlite3.Connection) -> bool:
        """Tell a new file from ours, and refuse any other."""
        application = int(connection.execute("PRAGMA application_id").fetchone()[0])
        schema = int(connection.execute("PRAGMA user_version").fetchone()[0])
        things = connection.execute("SELECT type, name FROM sqlite_master").fetchall()
        tables = len(things)
        if application == 0 and schema == 0 and tables == 0:
            return True
        if application != APPLICATION_ID:
            raise NasError(
                f"{self.path}: this SQLite file belongs to another program; "
                "give the score cache a file of its own"
            )
        strangers = [f"{kind} {name!r}" for kind, name in things if name != "scores"]
        if strangers or ("table", "scores") not in things:  # a view or trigger would run
            what = f"it holds the {strangers[0]}" if strangers else "its table is gone"
            raise _Damaged(what)
        if schema != SCHEMA:
            raise NasError(
                f"{self.path}: this score cache has format {schema}, this version reads format "
                f"{SCHEMA}; use the version that wrote it, or another file"
            )
        return False

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn what SQLite and the file system report into an error that says what to do."""
        try:
            yield
        except sqlite3.OperationalError as error:
            hint = "is the folder writable, and on a local disk with free space?"
            if "locked" in str(error):
                hint = f"another process has held it for more than {BUSY_SECONDS:.0f} s"
            elif "no such" in str(error):
                hint = "its table is gone; move the file away, the scores are computed again"
            raise NasError(f"{self.path}: score cache: {error}; {hint}") from error
        except (sqlite3.DatabaseError, UnicodeDecodeError, OverflowError, _Damaged) as error:
            raise NasError(
                f"{self.path}: no score cache, or a damaged one ({error}); "
                "move the file away, the scores are computed again"
            ) from error
        except OSError as error:
            raise NasError(f"{self.path}: cannot make the folder of the cache: {error}") from error


def _verdict(value: object, reason: object) -> float | str:
    if isinstance(value, float) and math.isfinite(value) and reason is None:
        return value
    if value is None and isinstance(reason, str):
        return reason
    raise _Damaged("a row holds neither a finite number nor a reason")


@contextmanager
def _transaction(connection: sqlite3.Connection, kind: str = "IMMEDIATE") -> Iterator[None]:
    """Read one state of the file, or change it as a whole.

    Args:
        connection: Of the file.
        kind: IMMEDIATE takes the write lock now, within the busy timeout; DEFERRED only reads.
    """
    connection.execute(f"BEGIN {kind}")
    try:
        yield
    except BaseException:
        with suppress(sqlite3.Error):  # the first error is the one to show
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def is_on_shared_disk(path: Path, mounts: Path = Path("/proc/self/mounts")) -> bool:
    """Tell whether a file is, or would be, on a disk of another machine.

    Args:
        path: Of the file.
        mounts: Where the system says what is mounted where; without it every disk is local.
    """
    try:
        lines = mounts.read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    where = path.absolute().resolve()
    found, longest = "", -1
    for line in lines:
        _, point, kind, *_ = line.split(" ")
        place = Path(point.encode().decode("unicode_escape"))  # a space is written as \\040
        if where.is_relative_to(place) and len(place.parts) >= longest:
            found, longest = kind, len(place.parts)
    return found in _SHARED or found.startswith("fuse.")


def _use_journal(connection: sqlite3.Connection, mode: str) -> None:
    """Switch to a mode, which is remembered in the file.

    SQLite does not wait for a lock here, whatever the timeout, so two processes that make the
    file together need this loop.
    """
    end = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute(f"PRAGMA journal_mode = {mode}")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > end:
                raise
            time.sleep(0.01)
        else:
            return

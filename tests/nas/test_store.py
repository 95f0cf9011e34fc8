"""The score cache in a file: exact, shared between processes, and clear about files it refuses."""

import gc
import os
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nas.store
from nas.oracle import MemoryCache
from nas.store import APPLICATION_ID, SCHEMA, Store, is_on_shared_disk
from spaces.errors import NasError

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "scores.sqlite"


def test_what_was_put_is_there_in_another_connection(path: Path) -> None:
    verdicts: dict[str, float | str] = {"a": 0.1, "b": "no gradient", "c": 5e-324, "d": -1e308}
    with Store(path) as store:
        assert store.put_many(verdicts) == verdicts
        assert store.put_many({}) == {}
    with Store(path) as store:
        assert store.get_many([*"abcdxyz"]) == verdicts
        assert store.get_many([]) == {}
        assert len(store) == 4


@settings(max_examples=30)
@given(values=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1))
def test_floats_come_back_exactly(
    values: list[float], tmp_path_factory: pytest.TempPathFactory
) -> None:
    verdicts: dict[str, float | str] = {str(i): value for i, value in enumerate(values)}
    with Store(tmp_path_factory.mktemp("exact") / "s.sqlite") as store:
        store.put_many(verdicts)
        found = store.get_many(list(verdicts))
    assert found == verdicts
    assert all(isinstance(value, float) for value in found.values())


def test_more_keys_than_one_statement_takes(path: Path) -> None:
    verdicts: dict[str, float | str] = {f"{i:05}": float(i) for i in range(2_345)}
    with Store(path) as store:
        store.put_many(verdicts)
        assert store.get_many([*verdicts, "stranger"]) == verdicts


@pytest.mark.parametrize("kind", ["file", "memory"])
def test_the_first_writer_wins(kind: str, path: Path) -> None:
    cache = Store(path) if kind == "file" else MemoryCache()
    cache.put_many({"a": 1.0, "b": "broken"})
    assert cache.put_many({"a": 2.0, "b": 3.0, "c": 4.0}) == {"a": 1.0, "b": "broken", "c": 4.0}
    assert cache.get_many(["a", "b", "c"]) == {"a": 1.0, "b": "broken", "c": 4.0}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_no_number_stands_for_a_failure(value: float, path: Path) -> None:
    with Store(path) as store:
        with pytest.raises(ValueError, match="must be finite"):
            store.put_many({"a": 1.0, "b": value})
        assert store.get_many(["a", "b"]) == {}


def test_a_closed_store_connects_again(path: Path) -> None:
    store = Store(path)
    store.put_many({"a": 1.0})
    store.close()
    store.close()
    assert not Path(f"{path}-wal").exists()  # the log was folded into the file
    assert store.get_many(["a"]) == {"a": 1.0}
    del store  # an open connection that is collected must not warn
    gc.collect()


def test_the_file_says_what_it_is_and_is_in_wal_mode(path: Path) -> None:
    Store(path).close()
    with closing(sqlite3.connect(path)) as plain:
        assert plain.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
        assert plain.execute("PRAGMA user_version").fetchone() == (SCHEMA,)
        assert plain.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_missing_folders_are_made(tmp_path: Path) -> None:
    Store(tmp_path / "runs" / "first" / "scores.sqlite").close()
    assert (tmp_path / "runs" / "first" / "scores.sqlite").is_file()


def test_an_empty_file_is_a_new_cache(path: Path) -> None:
    path.touch()
    with Store(path) as store:
        assert len(store) == 0


def test_a_file_of_another_program_is_refused_and_left_alone(path: Path) -> None:
    with closing(sqlite3.connect(path)) as plain:
        plain.execute("CREATE TABLE scores (key TEXT, value REAL, reason TEXT)")
        plain.commit()
    before = path.read_bytes()
    with pytest.raises(NasError, match="belongs to another program"):
        Store(path)
    assert path.read_bytes() == before


def test_a_file_of_a_newer_version_is_refused(path: Path) -> None:
    Store(path).close()
    with closing(sqlite3.connect(path)) as plain:
        plain.execute(f"PRAGMA user_version = {SCHEMA + 1}")
    with pytest.raises(NasError, match=f"format {SCHEMA + 1}, this version reads format {SCHEMA}"):
        Store(path)


def test_a_file_that_is_no_database_is_refused_and_left_alone(path: Path) -> None:
    path.write_text("arch,score\n" * 1000, encoding="utf-8")
    with pytest.raises(NasError, match=r"scores\.sqlite: no score cache, or a damaged one"):
        Store(path)
    assert path.read_text(encoding="utf-8").startswith("arch,score")


def test_a_damaged_file_is_named(path: Path) -> None:
    with Store(path) as store:
        store.put_many({f"{i:064}": float(i) for i in range(5_000)})
    content = bytearray(path.read_bytes())
    content[4096 : 40 * 4096] = b"\xa5" * (39 * 4096)
    path.write_bytes(content)
    with pytest.raises(NasError, match=r"scores\.sqlite: .*damaged"), Store(path) as store:
        store.get_many([f"{i:064}" for i in range(0, 5_000, 100)])


def test_a_missing_table_is_named(path: Path) -> None:
    Store(path).close()
    with closing(sqlite3.connect(path)) as plain:
        plain.execute("DROP TABLE scores")
    with pytest.raises(NasError, match="its table is gone"), Store(path) as store:
        store.get_many(["a"])


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NasError, match="cannot make the folder"):
        Store(tmp_path / "file" / "scores.sqlite")


def test_a_folder_in_place_of_the_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(NasError, match="unable to open"):
        Store(tmp_path)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write all")
def test_a_read_only_folder_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(NasError, match="is the folder writable"):
            Store(tmp_path / "scores.sqlite")
    finally:
        tmp_path.chmod(0o755)


def test_a_read_only_file_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Store(path).close()
    plain_connect = sqlite3.connect

    def read_only(where: Path, **options: object) -> sqlite3.Connection:
        # what permissions do to others, also for root
        return plain_connect(f"file:{where}?mode=ro", uri=True, **options)  # type: ignore[call-overload,no-any-return]

    monkeypatch.setattr(sqlite3, "connect", read_only)
    with pytest.raises(NasError, match=r"readonly database.*is the folder writable"):
        Store(path).put_many({"a": 1.0})


def test_a_lock_that_is_held_too_long_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nas.store, "BUSY_SECONDS", 0.05)
    with Store(path) as store, closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert store.get_many(["a"]) == {}  # readers do not wait
        with pytest.raises(NasError, match="another process has held it"):
            store.put_many({"a": 1.0})
        other.execute("ROLLBACK")
        assert store.put_many({"a": 1.0}) == {"a": 1.0}


def test_a_failed_batch_leaves_nothing(path: Path) -> None:
    with Store(path) as store:
        with pytest.raises(UnicodeEncodeError):
            store.put_many({"a": 1.0, "b": "half a character: \ud800"})
        assert len(store) == 0
        assert store.put_many({"a": 2.0}) == {"a": 2.0}  # no transaction is left open


def test_threads_share_a_store(path: Path) -> None:
    with Store(path) as store:

        def work(name: int) -> None:
            for i in range(30):
                store.put_many({f"{name}-{i}": float(i), f"common-{i}": float(i)})

        threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(store) == 4 * 30 + 30


def test_a_file_that_another_makes_at_this_moment_is_ours(tmp_path: Path) -> None:
    together, faults = threading.Barrier(6), []

    def work(path: Path) -> None:
        together.wait()
        try:
            Store(path).close()
        except NasError as error:
            faults.append(error)

    for number in range(30):  # without one look at all of it, three in four of these went wrong
        path = tmp_path / f"{number}.sqlite"
        threads = [threading.Thread(target=work, args=(path,)) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert faults == []


WRITER = """
import sys
from nas.store import Store
name, path = sys.argv[1:]
sys.stdin.read(1)  # all begin together
with Store(path) as store:
    for i in range(60):
        common = f"common-{i}"
        kept = store.put_many({f"{name}-{i}": i / 7, common: float(name)})
        assert store.get_many([common])[common] == kept[common], kept
"""


def test_processes_make_and_share_a_file(path: Path) -> None:
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(name), str(path)],
            cwd=CHECKOUT,
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in range(4)
    ]
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("x")
        writer.stdin.flush()
    complaints = [writer.communicate()[1] for writer in writers]
    assert complaints == [""] * 4
    assert [writer.returncode for writer in writers] == [0] * 4
    with Store(path) as store:
        assert len(store) == 4 * 60 + 60


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_makes_its_own_connection(path: Path) -> None:
    code = """
import os, sys
from nas.store import Store
store = Store(sys.argv[1])
store.put_many({"parent": 1.0})
child = os.fork()
if child == 0:
    store.put_many({"child": 2.0})
    store.close()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
store.put_many({"parent again": 3.0})
assert len(store) == 3
"""
    subprocess.run([sys.executable, "-c", code, str(path)], cwd=CHECKOUT, check=True)


MOUNTS = """\
/dev/sda1 / ext4 rw 0 0
server:/home /home nfs4 rw 0 0
/dev/sdb1 /home/local ext4 rw 0 0
me@there: /mnt/far\\040away fuse.sshfs rw 0 0
"""


@pytest.mark.parametrize(
    ("path", "shared"),
    [
        ("/var/scores.sqlite", False),
        ("/home/me/runs/scores.sqlite", True),
        ("/home/local/scores.sqlite", False),
        ("/homes/scores.sqlite", False),
        ("/mnt/far away/scores.sqlite", True),
    ],
)
def test_a_disk_of_another_machine_is_known(path: str, shared: bool, tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(MOUNTS)
    assert is_on_shared_disk(Path(path), mounts) is shared
    assert is_on_shared_disk(Path(path), tmp_path / "none") is False


@pytest.mark.parametrize(("shared", "mode"), [(False, "wal"), (True, "delete")])
def test_the_log_suits_the_disk(shared: bool, mode: str, tmp_path: Path) -> None:
    path = tmp_path / "scores.sqlite"
    with Store(path, shared_disk=shared) as store:
        store.put_many({"a": 1.0, "b": "no"})
        with Store(path, shared_disk=shared) as other:
            assert other.get_many(["a", "b"]) == {"a": 1.0, "b": "no"}
        with closing(sqlite3.connect(path)) as plain:
            found = plain.execute("PRAGMA journal_mode").fetchone()
    assert found == (mode,)

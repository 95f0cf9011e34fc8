"""Fetching from a server on this machine: whole, in parts, cut off, wrong, or not at all."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from nas.training import archives, fetch
from nas.training.archives import Archive
from nas.training.data import load_data
from nas.training.images import DataError
from tests.nas.training import official


@dataclass
class Mirror:
    """What a server gives, and how; what it was asked for."""

    files: dict[str, bytes]
    ranges: bool = True  # whether it gives parts
    from_start: bool = False  # whether a "part" is all of it again
    cut_after: list[int] = field(default_factory=list)  # bytes per answer, until the list is empty
    status: int | None = None  # answer everything with this
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    url: str = ""


class Handler(BaseHTTPRequestHandler):
    """Answers as its server's mirror says."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its own name
        pass

    def do_GET(self) -> None:
        mirror: Mirror = self.server.mirror  # type: ignore[attr-defined]
        wanted = self.headers.get("Range")
        mirror.asked.append((self.path, wanted))
        content = mirror.files.get(self.path)
        if mirror.status is not None or content is None:
            self.send_error(mirror.status or 404)
            return
        start = 0
        if wanted and mirror.ranges:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            start = 0 if mirror.from_start else start
            if start >= len(content):
                self.send_error(416)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        end = start + mirror.cut_after.pop(0) if mirror.cut_after else len(content)
        self.wfile.write(content[start:end])


@pytest.fixture
def serve() -> Iterator[Any]:
    servers = []

    def start(mirror: Mirror) -> Mirror:
        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.mirror = mirror  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        servers.append((server, thread))
        mirror.url = f"http://127.0.0.1:{server.server_address[1]}"
        return mirror

    yield start
    for server, thread in servers:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No mirror and no proxy of the machine, and smaller steps."""
    for name in ("NAS_DATA_URL", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(fetch, "_CHUNK", 1000)


NAME = "cifar-10-python.tar.gz"


def known(*urls: str) -> tuple[Archive, bytes]:
    """Return a tiny CIFAR-10 that can be had at these addresses, and its tar file."""
    archive, _, tar = official.tiny("cifar10")
    return replace(archive, urls=urls), tar


def asked(mirror: Mirror) -> list[str | None]:
    return [wanted for _, wanted in mirror.asked]


def test_a_file_is_fetched_checked_and_can_be_read(
    serve: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive, tar = known()
    mirror = serve(Mirror({f"/{NAME}": tar}))
    archive = replace(archive, urls=(f"{mirror.url}/{NAME}",))
    monkeypatch.setitem(archives.ARCHIVES, "cifar10", archive)
    root = tmp_path / "made" / "here"
    told: list[tuple[str, int, int | None]] = []
    files = fetch.fetch(archive, str(root), progress=lambda *step: told.append(step))
    assert files == [root / NAME]
    assert files[0].read_bytes() == tar
    assert told[-1] == (NAME, len(tar), len(tar))
    assert [done for _, done, _ in told] == sorted(done for _, done, _ in told)
    assert len(load_data("cifar10", {"root": str(root)}).train) == 100
    assert not list(root.glob("*.partial"))
    fetch.fetch(archive, str(root))  # it is there: nobody is asked
    assert len(mirror.asked) == 1


def test_a_broken_connection_goes_on_where_it_broke(serve: Any, tmp_path: Path) -> None:
    archive, tar = known()
    mirror = serve(Mirror({f"/{NAME}": tar}, cut_after=[5000, 7000]))
    fetch.fetch(archive, str(tmp_path), url=mirror.url)
    assert (tmp_path / NAME).read_bytes() == tar
    assert asked(mirror) == [None, "bytes=5000-", "bytes=12000-"]


def test_a_killed_download_goes_on_another_day(serve: Any, tmp_path: Path) -> None:
    archive, tar = known()
    (tmp_path / f"{NAME}.partial").write_bytes(tar[:3000])
    mirror = serve(Mirror({f"/{NAME}": tar}))
    fetch.fetch(archive, str(tmp_path), url=mirror.url)
    assert (tmp_path / NAME).read_bytes() == tar
    assert asked(mirror) == ["bytes=3000-"]


def test_one_killed_at_the_very_end_asks_nobody(tmp_path: Path) -> None:
    archive, tar = known()
    (tmp_path / f"{NAME}.partial").write_bytes(tar)
    fetch.fetch(archive, str(tmp_path), url="http://127.0.0.1:9")
    assert (tmp_path / NAME).read_bytes() == tar


def test_a_server_without_parts_begins_anew(serve: Any, tmp_path: Path) -> None:
    archive, tar = known()
    (tmp_path / f"{NAME}.partial").write_bytes(tar[:3000])
    mirror = serve(Mirror({f"/{NAME}": tar}, ranges=False))
    fetch.fetch(archive, str(tmp_path), url=mirror.url)
    assert (tmp_path / NAME).read_bytes() == tar
    assert len(mirror.asked) == 1


def test_a_part_that_begins_elsewhere_is_not_appended(serve: Any, tmp_path: Path) -> None:
    archive, tar = known()
    (tmp_path / f"{NAME}.partial").write_bytes(tar[:3000])
    mirror = serve(Mirror({f"/{NAME}": tar}, from_start=True))
    fetch.fetch(archive, str(tmp_path), url=mirror.url)
    assert (tmp_path / NAME).read_bytes() == tar
    assert asked(mirror) == ["bytes=3000-"]


@pytest.mark.parametrize("size", [3000, 10**7])
def test_a_part_of_another_file_is_thrown_away(serve: Any, tmp_path: Path, size: int) -> None:
    archive, tar = known()
    (tmp_path / f"{NAME}.partial").write_bytes(b"x" * size)
    mirror = serve(Mirror({f"/{NAME}": tar}))
    fetch.fetch(archive, str(tmp_path), url=mirror.url)
    assert (tmp_path / NAME).read_bytes() == tar
    assert asked(mirror) == [f"bytes={size}-", None]


def test_the_next_mirror_is_tried(serve: Any, tmp_path: Path) -> None:
    archive, tar = known()
    gone = serve(Mirror({}))
    wrong = serve(Mirror({f"/{NAME}": b"<html>please sign in</html>"}))
    good = serve(Mirror({f"/{NAME}": tar}))
    urls = tuple(f"{mirror.url}/{NAME}" for mirror in (gone, wrong, good))
    fetch.fetch(replace(archive, urls=urls), str(tmp_path))
    assert (tmp_path / NAME).read_bytes() == tar
    assert [len(mirror.asked) for mirror in (gone, wrong, good)] == [1, 1, 1]


def test_the_next_mirror_goes_on_where_one_broke(serve: Any, tmp_path: Path) -> None:
    archive, tar = known()
    weak = serve(Mirror({f"/{NAME}": tar}, cut_after=[4000, 0, 0, 0, 0]))
    good = serve(Mirror({f"/{NAME}": tar}))
    urls = (f"{weak.url}/{NAME}", f"{good.url}/{NAME}")
    fetch.fetch(replace(archive, urls=urls), str(tmp_path))
    assert asked(good) == ["bytes=4000-"]


def test_the_variable_wins_over_what_is_known_and_the_option_over_it(
    serve: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive, tar = known()
    built_in, mine, option = (serve(Mirror({f"/{p}{NAME}": tar})) for p in ("", "sets/", "other/"))
    archive = replace(archive, urls=(f"{built_in.url}/{NAME}",))
    monkeypatch.setenv("NAS_DATA_URL", f"{mine.url}/sets/")
    fetch.fetch(archive, str(tmp_path / "1"))
    assert [len(mirror.asked) for mirror in (built_in, mine, option)] == [0, 1, 0]
    fetch.fetch(archive, str(tmp_path / "2"), url=f"{option.url}/other/{NAME}")
    assert [len(mirror.asked) for mirror in (built_in, mine, option)] == [0, 1, 1]


def test_files_without_an_archive_come_one_by_one(
    serve: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive, files, _ = official.tiny("imagenet16_120")
    monkeypatch.setitem(archives.ARCHIVES, archive.name, archive)
    mirror = serve(Mirror({f"/{name}": content for name, content in files.items()}))
    fetched = fetch.fetch(archive, str(tmp_path), url=mirror.url)
    assert [file.name for file in fetched] == list(files)
    assert len(load_data(archive.name, {"root": str(tmp_path)}).train) == 190
    with pytest.raises(DataError, match=r"given out after signing in only"):
        fetch.fetch(archive, str(tmp_path / "other"))


def test_without_a_connection_one_message_says_what_to_do(tmp_path: Path) -> None:
    archive, tar = known("http://127.0.0.1:9/a.tar.gz", "http://no-such-host.invalid/b.tar.gz")
    (tmp_path / f"{NAME}.partial").write_bytes(tar[:3000])
    with pytest.raises(DataError) as info:
        fetch.fetch(archive, str(tmp_path))
    told = str(info.value)
    places = (NAME, archive.tar_md5, str(tmp_path), "127.0.0.1:9", "no-such-host.invalid")
    ways = ("NAS_DATA_URL", "--url", "throttled since June 2026", "3,000 bytes are kept")
    for word in (*places, *ways):
        assert word in told
    assert (tmp_path / f"{NAME}.partial").read_bytes() == tar[:3000]
    assert not (tmp_path / NAME).exists()


@pytest.mark.parametrize("status", [403, 404, 429, 500, 503])
def test_what_a_server_says_is_passed_on(serve: Any, tmp_path: Path, status: int) -> None:
    archive, _ = known()
    mirror = serve(Mirror({}, status=status))
    with pytest.raises(DataError, match=f"{mirror.url}/{NAME}: {status} "):
        fetch.fetch(archive, str(tmp_path), url=mirror.url)
    assert not (tmp_path / NAME).exists()


def test_wrong_bytes_never_get_the_name(serve: Any, tmp_path: Path) -> None:
    archive, tar = known()
    mirror = serve(Mirror({f"/{NAME}": tar[:-1] + b"x"}))
    with pytest.raises(DataError, match=f"gave another file: its md5 is .*{archive.tar_md5}"):
        fetch.fetch(archive, str(tmp_path), url=mirror.url)
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".lock"] == []


def test_a_connection_that_always_breaks_is_given_up(serve: Any, tmp_path: Path) -> None:
    archive, tar = known()
    mirror = serve(Mirror({f"/{NAME}": tar}, cut_after=[1000] * 50))
    with pytest.raises(DataError, match=r"broke off after 4,000 of .*\n.*4,000 bytes are kept"):
        fetch.fetch(archive, str(tmp_path), url=mirror.url)
    assert len(mirror.asked) == fetch.TRIES
    assert (tmp_path / f"{NAME}.partial").read_bytes() == tar[:4000]


def test_a_broken_file_of_that_name_is_replaced(serve: Any, tmp_path: Path) -> None:
    archive, tar = known()
    (tmp_path / NAME).write_bytes(tar[:100])
    mirror = serve(Mirror({f"/{NAME}": tar}))
    fetch.fetch(archive, str(tmp_path), url=mirror.url)
    assert (tmp_path / NAME).read_bytes() == tar


@pytest.mark.parametrize("url", ["file:///etc", "ftp://host/x", "mirror.example", "http://"])
def test_only_addresses_of_the_web_are_taken(tmp_path: Path, url: str) -> None:
    archive, _ = known()
    with pytest.raises(DataError, match=r"begins with http:// or https://"):
        fetch.fetch(archive, str(tmp_path), url=url)


def test_two_do_not_fetch_the_same(serve: Any, tmp_path: Path) -> None:
    archive, tar = known()
    mirror = serve(Mirror({f"/{NAME}": tar}))
    with (
        FileLock(tmp_path / f"{NAME}.partial.lock"),
        pytest.raises(DataError, match=r"another process is fetching it"),
    ):
        fetch.fetch(archive, str(tmp_path), url=mirror.url)
    assert mirror.asked == []


def test_a_place_that_cannot_be_written_is_named(serve: Any, tmp_path: Path) -> None:
    archive, tar = known()
    mirror = serve(Mirror({f"/{NAME}": tar}))
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(DataError, match=f"{tmp_path / 'file' / NAME}: cannot write: "):
        fetch.fetch(archive, str(tmp_path / "file"), url=mirror.url)


def test_a_full_disk_keeps_what_came(
    serve: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive, tar = known()
    mirror = serve(Mirror({f"/{NAME}": tar}))

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", full)
        with pytest.raises(DataError, match=r"cannot write: No space left on device"):
            fetch.fetch(archive, str(tmp_path), url=mirror.url)
    assert (tmp_path / f"{NAME}.partial").is_file()
    fetch.fetch(archive, str(tmp_path), url=mirror.url)
    assert (tmp_path / NAME).read_bytes() == tar

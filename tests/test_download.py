"""Downloads against a real HTTP server: whole, interrupted, refused, changed, wrong."""

import contextlib
import hashlib
import http.server
import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from blipbench import download
from blipbench.download import fetch
from blipbench.errors import DataError

BODY = random.Random(0).randbytes(3_000_000)


@dataclass
class Site:
    """What the server does, and the Range headers it was asked for."""

    url: str = ""
    body: bytes = BODY
    status: int = 200
    etag: str = '"one"'
    content_type: str = "application/octet-stream"
    drop_after: list[int] = field(default_factory=list)  # bytes sent before the connection breaks, one per request
    asked: list[str | None] = field(default_factory=list)


@pytest.fixture
def site() -> Iterator[Site]:
    state = Site()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            state.asked.append(asked)
            if state.status != 200:
                self.send_error(state.status)
                return
            start = int(asked[6:-1]) if asked and self.headers.get("If-Range") == state.etag else 0
            if start >= len(state.body):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(state.body)}")
                self.end_headers()
                return
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(state.body) - 1}/{len(state.body)}")
            self.send_header("Content-Length", str(len(state.body) - start))
            self.send_header("Content-Type", state.content_type)
            self.send_header("ETag", state.etag)
            self.end_headers()
            stop = start + state.drop_after.pop(0) if state.drop_after else len(state.body)
            with contextlib.suppress(ConnectionError):  # the client of a test may hang up
                self.wfile.write(state.body[start:stop])

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_port}/model.pth"
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield state
    server.shutdown()
    server.server_close()


def test_a_download_is_complete_hashed_and_leaves_no_part(site: Site, tmp_path: Path) -> None:
    path = fetch(site.url, tmp_path / "deep" / "model.pth")
    assert path.read_bytes() == BODY
    assert (tmp_path / "deep" / "model.pth.sha256").read_text() == f"{hashlib.sha256(BODY).hexdigest()}  model.pth\n"
    assert sorted(p.name for p in path.parent.iterdir()) == ["model.pth", "model.pth.sha256"]


def test_a_file_that_is_there_is_not_asked_for(site: Site, tmp_path: Path) -> None:
    (tmp_path / "model.pth").write_bytes(b"mine")
    assert fetch(site.url, tmp_path / "model.pth").read_bytes() == b"mine"
    assert site.asked == []


def test_a_file_that_is_there_with_another_hash_is_refused(site: Site, tmp_path: Path) -> None:
    (tmp_path / "model.pth").write_bytes(b"mine")
    with pytest.raises(DataError, match=r"model.pth: sha256 is .*, expected .*; delete it"):
        fetch(site.url, tmp_path / "model.pth", sha256=hashlib.sha256(BODY).hexdigest())


def test_a_dropped_connection_resumes_within_the_call(site: Site, tmp_path: Path) -> None:
    site.drop_after = [1_200_000]
    assert fetch(site.url, tmp_path / "model.pth", md5=hashlib.md5(BODY).hexdigest()).read_bytes() == BODY
    assert site.asked == [None, "bytes=1200000-"]


def test_a_killed_download_resumes_in_the_next_call(site: Site, tmp_path: Path) -> None:
    def interrupt(done: int, total: int | None) -> None:
        assert total == len(BODY)
        if done > 1 << 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(site.url, tmp_path / "model.pth", progress=interrupt)
    kept = (tmp_path / "model.pth.part").stat().st_size
    assert fetch(site.url, tmp_path / "model.pth").read_bytes() == BODY
    assert site.asked == [None, f"bytes={kept}-"]
    assert kept > 1 << 20


def test_a_part_of_another_version_of_the_file_is_not_continued(site: Site, tmp_path: Path) -> None:
    (tmp_path / "model.pth.part").write_bytes(b"x" * 1000)
    (tmp_path / "model.pth.part.etag").write_text('"zero"')
    assert fetch(site.url, tmp_path / "model.pth").read_bytes() == BODY


def test_a_part_that_was_already_whole_is_taken(site: Site, tmp_path: Path) -> None:
    (tmp_path / "model.pth.part").write_bytes(BODY)
    (tmp_path / "model.pth.part.etag").write_text(site.etag)
    assert fetch(site.url, tmp_path / "model.pth").read_bytes() == BODY


def test_a_wrong_hash_is_named_and_nothing_kept(site: Site, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"http://.*: sha256 is .*, expected 00ff; the download was discarded"):
        fetch(site.url, tmp_path / "model.pth", sha256="00ff")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("status", "words"), [(403, "the server refused access"), (404, "the server has no such file")]
)
def test_a_refusal_says_where_to_put_the_file(site: Site, tmp_path: Path, status: int, words: str) -> None:
    site.status = status
    with pytest.raises(DataError, match=rf"{words} \({status} .*put it at .*model.pth"):
        fetch(site.url, tmp_path / "model.pth")
    assert list(tmp_path.iterdir()) == []


def test_a_web_page_in_place_of_the_file_is_refused(site: Site, tmp_path: Path) -> None:
    site.content_type = "text/html"
    with pytest.raises(DataError, match="sent a web page instead of the file"):
        fetch(site.url, tmp_path / "model.pth")


def test_no_network_keeps_what_is_there_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "_BACKOFF", (0.0,))
    (tmp_path / "model.pth.part").write_bytes(b"x" * 10)
    (tmp_path / "model.pth.part.etag").write_text('"one"')
    with pytest.raises(DataError, match=r"10 bytes are kept, .* put it at"):
        fetch("http://127.0.0.1:9/model.pth", tmp_path / "model.pth")
    assert (tmp_path / "model.pth.part").stat().st_size == 10


def test_a_folder_that_cannot_be_written_is_named(site: Site, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"model.pth: cannot be written \(.*\) while downloading http://"):
        fetch(site.url, tmp_path / "file" / "model.pth")


def test_only_web_addresses_are_fetched(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="only http and https"):
        fetch("file:///etc/passwd", tmp_path / "passwd")


def test_several_that_fetch_one_file_all_get_it_whole_from_one_download(site: Site, tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as threads:
        done = [threads.submit(fetch, site.url, tmp_path / "model.pth") for _ in range(4)]
    assert {future.result() for future in done} == {tmp_path / "model.pth"}
    assert (tmp_path / "model.pth").read_bytes() == BODY
    assert len(site.asked) == 1

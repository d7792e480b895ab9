"""`data prepare` fetches what is free, says where the rest is, and never touches what is there."""

import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from blipbench.config.task import SourceSpec
from blipbench.data.prepare import prepare
from blipbench.errors import UsageError

CONTENT = b'[{"image": "a.jpg", "caption": ["x"]}]'
MD5 = hashlib.md5(CONTENT).hexdigest()
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class _Server(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.asked.append(self.path)  # type: ignore[attr-defined]
        if self.path != "/t.json":
            self.send_error(403)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[http.server.HTTPServer]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Server)
    server.asked = []  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def address(server: http.server.HTTPServer, file: str = "t.json") -> str:
    return f"http://127.0.0.1:{server.server_port}/{file}"


def test_a_free_file_is_fetched_and_its_hash_checked(tmp_path: Path, server: http.server.HTTPServer) -> None:
    seen: list[tuple[str, int, int | None]] = []
    source = SourceSpec(file="t.json", url=address(server), md5=MD5, auto=True)
    report = prepare("mine", [source], tmp_path / "new", lambda *step: seen.append(step))
    assert report.ok
    assert (tmp_path / "new" / "t.json").read_bytes() == CONTENT
    assert "has the published md5" in report.lines[1]
    assert seen[-1] == ("t.json", len(CONTENT), len(CONTENT))


def test_a_file_that_is_there_is_not_fetched_again(tmp_path: Path, server: http.server.HTTPServer) -> None:
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "t.json").write_bytes(CONTENT)
    assert prepare("mine", [SourceSpec(file="t.json", url=address(server), sha256=SHA256, auto=True)], tmp_path).ok
    assert server.asked == []  # type: ignore[attr-defined]


def test_a_wrong_hash_is_named_and_the_file_kept(tmp_path: Path, server: http.server.HTTPServer) -> None:
    (tmp_path / "t.json").write_text("mine")
    report = prepare("mine", [SourceSpec(file="t.json", url=address(server), md5=MD5, auto=True)], tmp_path)
    assert not report.ok
    assert report.wrong == ["t.json"]
    assert MD5 in report.lines[1]
    assert hashlib.md5(b"mine").hexdigest() in report.lines[1]
    assert (tmp_path / "t.json").read_text() == "mine"
    assert server.asked == []  # type: ignore[attr-defined]


def test_a_refused_file_is_listed_with_its_address_and_place(tmp_path: Path, server: http.server.HTTPServer) -> None:
    refused = SourceSpec(file="secret.json", url=address(server, "secret.json"), auto=True)
    report = prepare("mine", [refused, SourceSpec(file="t.json", url=address(server), auto=True)], tmp_path)
    assert report.missing == ["secret.json"]
    assert (tmp_path / "t.json").exists()
    assert refused.url is not None
    assert refused.url in report.lines[1]
    assert "403" in report.lines[1]
    assert str(tmp_path / "secret.json") in report.lines[1]


def test_what_is_not_free_is_described_and_never_fetched(tmp_path: Path, server: http.server.HTTPServer) -> None:
    folder = SourceSpec(file="val2014/", url=address(server, "val2014.zip"), md5="a3d7", note="6.2 GB")
    report = prepare("mine", [folder], tmp_path)
    assert report.missing == ["val2014/"]
    assert report.lines[1] == (
        f"missing   val2014/: get {folder.url} and unpack it so that its images lie in {tmp_path / 'val2014'} "
        "(6.2 GB; md5 a3d7)"
    )
    assert server.asked == []  # type: ignore[attr-defined]


def test_an_unpacked_folder_is_found_under_images_too(tmp_path: Path) -> None:
    (tmp_path / "images" / "val2014").mkdir(parents=True)
    assert not prepare("mine", [SourceSpec(file="val2014/")], tmp_path).ok  # empty
    (tmp_path / "images" / "val2014" / "a.jpg").touch()
    assert prepare("mine", [SourceSpec(file="val2014/")], tmp_path).ok


def test_an_archive_that_is_there_is_checked_and_waits_to_be_unpacked(tmp_path: Path) -> None:
    (tmp_path / "val2014.zip").write_bytes(CONTENT)
    source = SourceSpec(file="val2014/", url="http://host/val2014.zip", md5=MD5)
    (sound,) = prepare("mine", [source], tmp_path).lines[1:]
    assert sound == (
        f"missing   val2014/: {tmp_path / 'val2014.zip'} has the published md5; "
        f"unpack it so that its images lie in {tmp_path / 'val2014'}"
    )
    assert prepare("mine", [SourceSpec(file="val2014/", url="http://host/val2014.zip", md5="0" * 32)], tmp_path).wrong


def test_where_no_hash_is_published_the_first_one_seen_is_kept_and_a_change_noticed(tmp_path: Path) -> None:
    source = SourceSpec(file="t.json")
    (tmp_path / "t.json").write_bytes(CONTENT)
    assert SHA256 in prepare("mine", [source], tmp_path).lines[1]
    assert (tmp_path / "t.json.sha256").read_text() == f"{SHA256}  t.json\n"
    assert prepare("mine", [source], tmp_path).ok
    (tmp_path / "t.json").write_text("changed")
    report = prepare("mine", [source], tmp_path)
    assert report.wrong == ["t.json"]
    assert SHA256 in report.lines[1]
    assert (tmp_path / "t.json.sha256").read_text().startswith(SHA256)


def test_an_empty_file_is_not_taken_for_the_data(tmp_path: Path) -> None:
    (tmp_path / "t.json").touch()
    report = prepare("mine", [SourceSpec(file="t.json")], tmp_path)
    assert report.wrong == ["t.json"]
    assert "is an empty file" in report.lines[1]


def test_a_source_outside_the_data_folder_is_wrong_usage(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"mine: sources: file '\.\./x' leaves the data folder"):
        prepare("mine", [SourceSpec(file="../x")], tmp_path)


def test_an_optional_file_that_is_missing_is_told_but_does_not_fail(tmp_path: Path) -> None:
    report = prepare("task", [SourceSpec(file="train2014/", optional=True, note="for training")], tmp_path)
    assert report.ok
    assert report.lines[1].startswith("optional  train2014/: get it from its publisher")

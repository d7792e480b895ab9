"""Downloads that survive interruptions: `fetch` takes a URL and returns a verified file.

Takes an http(s) URL, the destination and, if known, the file's hash. Returns the path of a complete file, whose SHA-256
is recorded beside it (`<file>.sha256`, in the format of sha256sum). An incomplete file is called `<file>.part`. It is
kept after a failure, Ctrl-C or a kill, and the next call resumes the download.
"""

import contextlib
import fcntl
import hashlib
import http.client
import os
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from blipbench.errors import DataError

DownloadProgress = Callable[[int, int | None], None]  # (bytes so far, total bytes or None)

_CHUNK = 1 << 20
_TIMEOUT = 60.0  # seconds without data
_BACKOFF = (1.0, 3.0)  # seconds before a retry after an attempt that received no data


def cache_dir() -> Path:
    """The folder for downloads: `$BLIPBENCH_CACHE`, or by default ~/.cache/blipbench."""
    chosen = os.environ.get("BLIPBENCH_CACHE")
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "blipbench"


def hash_file(path: Path, algorithm: str = "sha256") -> str:
    """The hexadecimal digest of a file, read in blocks."""
    digest = hashlib.new(algorithm)
    with path.open("rb") as file:
        while block := file.read(_CHUNK):
            digest.update(block)
    return digest.hexdigest()


def fetch(
    url: str,
    destination: Path,
    *,
    sha256: str | None = None,
    md5: str | None = None,
    progress: DownloadProgress | None = None,
) -> Path:
    """Download `url` to `destination` unless the file exists; resume an interrupted download.

    `progress(done, total)` is called with byte counts after every block. An existing file is hashed only if a hash is
    given. Two processes may fetch the same file: one downloads it, the other waits.

    Raises DataError, which names the URL and where to put the file manually: access refused (403), not found (404), no
    network, a web page instead of the file, a wrong hash, or no space left.
    """
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        raise DataError(f"{url}: only http and https addresses can be downloaded; {_by_hand(destination)}")
    if not destination.exists():
        try:
            destination.parent.mkdir(parents=True, exist_ok=True)
            _download(url, destination, sha256, md5, progress)
        except OSError as error:
            raise DataError(
                f"{destination}: cannot be written ({error.strerror or error}) while downloading {url}"
            ) from error
    elif (wrong := _wrong_hash(destination, sha256, md5)) is not None:
        raise DataError(f"{destination}: {wrong}; delete it and try again to download it from {url}")
    return destination


def _download(
    url: str, destination: Path, sha256: str | None, md5: str | None, progress: DownloadProgress | None
) -> None:
    part = destination.with_name(destination.name + ".part")
    validator = destination.with_name(destination.name + ".part.etag")
    with _locked(part) as file:
        try:
            if destination.exists():  # another process downloaded it while this one waited
                return
            _transfer_all(url, destination, file, validator, progress)
            os.fsync(file.fileno())
            if (wrong := _wrong_hash(part, sha256, md5)) is not None:
                file.truncate(0)
                raise DataError(f"{url}: {wrong}; the download was discarded. Try again, or {_by_hand(destination)}")
            record = destination.with_name(destination.name + ".sha256")
            record.write_text(f"{sha256 or hash_file(part)}  {destination.name}\n")
            os.replace(part, destination)
        finally:
            if destination.exists() or os.fstat(file.fileno()).st_size == 0:
                part.unlink(missing_ok=True)
                validator.unlink(missing_ok=True)


def _locked(part: Path) -> BinaryIO:
    """The part file, opened for appending and locked by this process."""
    while True:
        file = part.open("ab")
        fcntl.flock(file, fcntl.LOCK_EX)
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), part.stat()):
                return file
        file.close()  # another process renamed or removed the locked file while this one waited


def _transfer_all(
    url: str, destination: Path, file: BinaryIO, validator: Path, progress: DownloadProgress | None
) -> None:
    """Resume after each broken connection, until the file is complete or several attempts receive no data."""
    fruitless = 0
    while True:
        before = file.tell()
        try:
            total = _transfer(url, destination, file, validator, progress)
            if total is None or file.tell() == total:
                return
            broken = f"the connection closed after {file.tell()} of {total} bytes"
        except urllib.error.HTTPError as error:
            if error.code < 500:
                raise DataError(_refusal(url, destination, error)) from error
            broken = f"the server answered {error.code} {error.reason}"
        except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
            broken = str(getattr(error, "reason", error)) or type(error).__name__
        fruitless = 0 if file.tell() > before else fruitless + 1
        if fruitless > len(_BACKOFF):
            raise DataError(
                f"{url}: cannot be downloaded ({broken}); {file.tell()} bytes are kept, and the same command resumes "
                f"the download. Without a network, {_by_hand(destination)}"
            )
        time.sleep(_BACKOFF[fruitless - 1] if fruitless else 0.0)


def _transfer(
    url: str, destination: Path, file: BinaryIO, validator: Path, progress: DownloadProgress | None
) -> int | None:
    """Make one request and append the data to `file`. Returns the size of the whole file if the server states it.

    Uses urllib instead of pooch, because pooch restarts a broken download, and checkpoints can have several gigabytes.
    """
    request = urllib.request.Request(url, headers={"User-Agent": "blipbench"})
    if file.tell() and validator.exists():
        request.add_header("Range", f"bytes={file.tell()}-")
        request.add_header("If-Range", validator.read_text())  # a changed file is sent from the start
    else:
        file.truncate(0)
    try:
        response: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        total = _total_bytes(error.headers.get("Content-Range"))
        if total != file.tell():  # the part is longer than the file, so it belongs to another file
            file.truncate(0)
        return total
    with response:
        if response.status == 206:
            total = _total_bytes(response.headers.get("Content-Range"))
        else:
            file.truncate(0)
            length = response.headers.get("Content-Length")
            total = int(length) if length else None
        if response.headers.get_content_type() == "text/html" and destination.suffix not in (".html", ".htm"):
            raise DataError(f"{url}: the server sent a web page instead of the file; {_by_hand(destination)}")
        mark = response.headers.get("ETag") or response.headers.get("Last-Modified")
        if mark and not mark.startswith("W/"):  # weak validators do not guarantee equal bytes
            validator.write_text(mark)
        else:
            validator.unlink(missing_ok=True)
        for block in _blocks(response):
            file.write(block)
            if progress is not None:
                progress(file.tell(), total)
        file.flush()
    return total


def _blocks(response: http.client.HTTPResponse) -> Iterator[bytes]:
    while block := response.read(_CHUNK):
        yield block


def _total_bytes(content_range: str | None) -> int | None:
    """The total of a Content-Range header: 10 for 'bytes 5-9/10' and for 'bytes */10'."""
    found = re.search(r"/(\d+)$", content_range or "")
    return int(found.group(1)) if found else None


def _wrong_hash(path: Path, sha256: str | None, md5: str | None) -> str | None:
    for algorithm, expected in (("sha256", sha256), ("md5", md5)):
        if expected is not None and (found := hash_file(path, algorithm)) != expected.lower():
            return f"{algorithm} is {found}, expected {expected}"
    return None


def _refusal(url: str, destination: Path, error: urllib.error.HTTPError) -> str:
    meaning = {401: "the server requires a login", 403: "the server refused access", 404: "the server has no such file"}
    said = meaning.get(error.code, "the server refused the request")
    return f"{url}: {said} ({error.code} {error.reason}); {_by_hand(destination)}"


def _by_hand(destination: Path) -> str:
    return f"get the file in another way and put it at {destination}"

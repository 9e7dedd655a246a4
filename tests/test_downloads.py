"""A file is named by its path or its URL, and is downloaded once, whole or not at all."""

import hashlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import requests
import urllib3

from napari_synapse_cl.errors import InputError
from napari_synapse_cl.system.downloads import is_cached, is_url, local_file

CONTENT = bytes(range(256)) * 10_000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
PAGE = b"\n<!DOCTYPE html><html><body>Sign in</body></html>"


class Handler(BaseHTTPRequestHandler):
    """Answers by the path that is asked for."""

    def do_GET(self) -> None:
        self.server.asked.append(self.path)  # type: ignore[attr-defined]
        path = self.path.split("?")[0]
        if path == "/moved":
            self.answer(302, b"", Location="/network.pt")
        elif path == "/network.pt":
            self.answer(200, CONTENT)
        elif path == "/cut.pt":
            self.answer(200, CONTENT[:100_000], length=len(CONTENT))
        elif path == "/unsized.pt":
            self.answer(200, CONTENT, length=None)
        elif path == "/empty.pt":
            self.answer(200, b"")
        elif path == "/length.pt":
            self.answer(200, CONTENT, **{"Content-Length": "many"}, length=None)
        elif path == "/huge.pt":
            self.answer(200, CONTENT, length=10**12)
        elif path == "/elsewhere.pt":
            self.answer(302, b"", Location="file:///etc/hostname")
        elif path == "/round.pt":
            self.answer(302, b"", Location="/round.pt")
        elif path == "/page":
            self.answer(200, b"sign in", **{"Content-Type": "text/html; charset=utf-8"})
        elif path == "/undeclared_page":
            self.answer(200, PAGE)
        else:
            self.answer(404, PAGE, **{"Content-Type": "text/html"})

    def answer(self, status: int, body: bytes, length: int | None = -1, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if length is not None:
            self.send_header("Content-Length", str(len(body) if length == -1 else length))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


class Server:
    """A server on this computer that counts what it is asked for."""

    def __init__(self) -> None:
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.asked = self.asked = []  # type: ignore[attr-defined]
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = Server()
    thread = Thread(target=server.http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.http.shutdown()
    server.http.server_close()
    thread.join()


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("https://host/a.pt", True),
        ("gs://bucket/a.pt", True),
        ("run/a.pt", False),
        ("C:/run/a.pt", False),
        ("https:/a.pt", False),
    ],
)
def test_urls_are_told_from_paths(location: str, expected: bool) -> None:
    assert is_url(location) is expected


def test_a_path_is_returned_as_it_is(tmp_path: Path) -> None:
    assert local_file("run/a.pt", folder=tmp_path) == Path("run/a.pt")
    assert local_file(tmp_path / "a.pt", folder=tmp_path) == tmp_path / "a.pt"
    assert is_cached("run/a.pt", tmp_path)


def test_a_file_is_downloaded_once(server: Server, tmp_path: Path) -> None:
    url, folder = f"{server.url}/network.pt", tmp_path / "new" / "folder"
    assert not is_cached(url, folder)
    file = local_file(url, folder=folder)
    assert file.read_bytes() == CONTENT
    assert file.name.endswith("-network.pt")
    assert is_cached(url, folder)
    assert local_file(url, folder=folder) == file
    assert server.asked == ["/network.pt"]
    assert list(folder.iterdir()) == [file]


def test_files_of_one_name_are_told_apart(server: Server, tmp_path: Path) -> None:
    first = local_file(f"{server.url}/network.pt?version=1", folder=tmp_path)
    second = local_file(f"{server.url}/network.pt?version=2", folder=tmp_path)
    assert first != second
    assert len(server.asked) == 2


def test_redirects_are_followed(server: Server, tmp_path: Path) -> None:
    file = local_file(f"{server.url}/moved", folder=tmp_path)
    assert file.read_bytes() == CONTENT
    assert server.asked == ["/moved", "/network.pt"]


@pytest.mark.parametrize(("name", "total"), [("network.pt", len(CONTENT)), ("unsized.pt", None)])
def test_progress_is_told_in_bytes(
    server: Server, name: str, total: int | None, tmp_path: Path
) -> None:
    told: list[tuple[int, int | None]] = []
    local_file(f"{server.url}/{name}", lambda *seen: told.append(seen), tmp_path)
    done = [bytes_done for bytes_done, _ in told]
    assert len(done) > 1
    assert done == sorted(done)
    assert done[-1] == len(CONTENT)
    assert {seen_total for _, seen_total in told} == {total}


def test_what_progress_raises_ends_the_download(server: Server, tmp_path: Path) -> None:
    def stop(done: int, total: int | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        local_file(f"{server.url}/network.pt", stop, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.pt", r"missing\.pt cannot be downloaded: the server answers “404 Not Found”"),
        ("cut.pt", r"cut\.pt cannot be downloaded: the connection broke off"),
        ("empty.pt", r"empty\.pt cannot be downloaded: the server sends an empty file"),
        ("length.pt", "the server says that it has “many” bytes"),
        ("huge.pt", r"huge\.pt has more than 8 GiB, which is no network"),
        ("elsewhere.pt", "leads on to another address, which cannot be followed"),
        ("round.pt", "leads on to another address, which cannot be followed"),
        ("page", "page leads to a web page and not to a file"),
        ("undeclared_page", "undeclared_page leads to a web page and not to a file"),
        (f"network.pt#sha256={'0' * 64}", f"SHA-256 is {SHA256} and should be {'0' * 64}"),
    ],
)
def test_a_download_that_fails_is_told_in_one_line_and_leaves_nothing(
    server: Server, name: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message) as refused:
        local_file(f"{server.url}/{name}", folder=tmp_path)
    assert "\n" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_what_is_shorter_than_the_server_says_is_not_kept_if_no_library_counts_it(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    begin = urllib3.HTTPResponse.__init__

    def begin_trusting(*parts: Any, **settings: Any) -> None:
        # As versions of urllib3 before 2 do.
        begin(*parts, **{**settings, "enforce_content_length": False})

    monkeypatch.setattr(urllib3.HTTPResponse, "__init__", begin_trusting)
    with pytest.raises(InputError, match="the connection broke off; try again"):
        local_file(f"{server.url}/cut.pt", folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["network.pt", "unsized.pt"])
def test_a_download_without_an_end_is_ended(
    server: Server, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("napari_synapse_cl.system.downloads.LARGEST_BYTES", 10**6)
    with pytest.raises(InputError, match=f"{name} has more than .* GiB, which is no network"):
        local_file(f"{server.url}/{name}", folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_the_same_name_from_another_server_is_another(
    server: Server, tmp_path: Path
) -> None:
    first = local_file(f"{server.url}/network.pt", folder=tmp_path)
    second = local_file(
        f"{server.url}/network.pt".replace("127.0.0.1", "localhost"), None, tmp_path
    )
    assert first != second
    assert len(list(tmp_path.iterdir())) == 2


def test_the_hash_is_checked_each_time(server: Server, tmp_path: Path) -> None:
    url = f"{server.url}/network.pt"
    file = local_file(f"{url}#sha256={SHA256.upper()}", folder=tmp_path)
    assert file == local_file(url, folder=tmp_path), "the hash is no part of the name"
    assert server.asked == ["/network.pt"], "and is not asked for"
    file.write_bytes(b"damaged")
    with pytest.raises(InputError, match=f"should be {SHA256}"):
        local_file(f"{url}#sha256={SHA256}", folder=tmp_path)
    assert local_file(f"{url}#sha256={SHA256}", folder=tmp_path).read_bytes() == CONTENT


def test_a_hash_that_is_none_is_refused_before_anything_is_asked_for(
    server: Server, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="64 hexadecimal digits"):
        local_file(f"{server.url}/network.pt#sha256=abc", folder=tmp_path)
    assert server.asked == []


def test_a_server_that_is_not_there_is_told(server: Server, tmp_path: Path) -> None:
    server.http.server_close()
    with pytest.raises(InputError, match="the server cannot be reached"):
        local_file(f"{server.url}/network.pt", folder=tmp_path)


def test_a_server_that_does_not_answer_is_told(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def silence(*_: Any, **settings: Any) -> None:
        assert settings["timeout"] == 30
        raise requests.exceptions.ReadTimeout

    monkeypatch.setattr(requests, "get", silence)
    with pytest.raises(InputError, match="no answer for 30 s"):
        local_file(f"{server.url}/network.pt", folder=tmp_path)


def test_a_full_disk_is_told(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(InputError, match=f"cannot be kept in {tmp_path}: the disk is full"):
        local_file(f"{server.url}/network.pt", folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("location", "address"),
    [
        ("gs://bucket/a/b.pt", "https://storage.googleapis.com/bucket/a/b.pt"),
        ("s3://bucket/a/b.pt", "https://bucket.s3.amazonaws.com/a/b.pt"),
    ],
)
def test_buckets_are_asked_at_their_public_address(
    location: str, address: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(url: str, **_: Any) -> None:
        raise requests.exceptions.ConnectionError

    monkeypatch.setattr(requests, "get", refuse)
    with pytest.raises(InputError, match=f"^{address} cannot be downloaded"):
        local_file(location, folder=tmp_path)


def test_other_schemes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="begins with ftp://, and http, https, gs and s3"):
        local_file("ftp://host/a.pt", folder=tmp_path)

"""Files by path or by URL: what lies elsewhere is downloaded once, whole or not at all."""

import hashlib
import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO
from urllib.parse import unquote, urldefrag, urlsplit

from napari_synapse_cl.errors import InputError, reason
from napari_synapse_cl.system.environment import CACHE_VARIABLE, cache_folder
from napari_synapse_cl.system.files import replacing, sha256_of, shortened

TIMEOUT_SECONDS = 30
CHUNK_BYTES = 2**20
LARGEST_BYTES = 2**33
"""No network is larger; some servers never end."""

Progress = Callable[[int, int | None], None]
"""Is told how many bytes are there, and how many there will be where the server says so."""

PACKAGE = "package://"
"""Before the name of a network that comes with the program."""
_PACKAGED = Path(__file__).parents[1] / "networks"

DESCRIPTIONS = ("rdf.yaml", "bioimageio.yaml", "model.yaml")
"""What the file may be called that describes a package of the BioImage Model Zoo."""

_HASH = re.compile(r"sha256=([0-9a-f]{64})", re.IGNORECASE)


def is_url(location: str) -> bool:
    """Whether a location is a URL, and not a path."""
    return re.match(r"[a-z][a-z0-9+.-]+://", location) is not None


def packaged() -> list[str]:
    """Return the names of the networks that come with the program."""
    return sorted(file.stem for file in _PACKAGED.glob("*.safetensors"))


def in_full(location: str) -> str:
    """Return a location in which a network that comes with the program is told from a path."""
    return f"{PACKAGE}{location}" if location in packaged() else location


def is_cached(location: str | Path, folder: Path | None = None) -> bool:
    """Whether :func:`local_file` needs no network for a location: a path, or downloaded before.

    Raises
    ------
    InputError
        If it is a URL of a kind that is not known.
    """
    if isinstance(location, Path) or not is_url(location):
        return True
    if location.startswith(PACKAGE):
        return True
    folder = folder or _downloads()
    return folder is not None and _cached_name(_address(location), folder).is_file()


def _downloads() -> Path | None:
    cache = cache_folder()
    return None if cache is None else cache / "checkpoints"


def local_file(
    location: str | Path, progress: Progress | None = None, folder: Path | None = None
) -> Path:
    """Return the path of a file that is named by its path or its URL.

    Parameters
    ----------
    location
        A path, which is returned as it is (of the folder of an unpacked package of the BioImage
        Model Zoo that of its description), or a URL: http, https, gs or s3, the last two of what
        is public. ``#sha256=`` and 64 hexadecimal digits behind it say what the file's hash must
        be; that is checked each time. ``package://`` and a name is a network of :func:`packaged`.
    progress
        Is called as a download goes on. What it raises ends the download.
    folder
        Where downloads are kept; without it in the user's cache folder.

    Returns
    -------
    Path
        The file. Of a URL it lies in `folder`, where the next call finds it.

    Raises
    ------
    InputError
        If the file cannot be downloaded, is a web page, or has another hash. Nothing of it is then
        kept.
    """
    if isinstance(location, Path) or not is_url(location):
        return _described(Path(location))
    if location.startswith(PACKAGE):
        name = location.removeprefix(PACKAGE)
        if name not in packaged():
            raise InputError(
                f"no network {name} comes with this version; there is {', '.join(packaged())}"
            )
        return _PACKAGED / f"{name}.safetensors"
    url, expected = _address(location), _expected_hash(location)
    folder = folder or _downloads()
    if folder is None:
        raise InputError(
            f"{url} cannot be kept, since there is no home directory: set {CACHE_VARIABLE} to a "
            "folder for it, or download it elsewhere and name its path"
        )
    file = _cached_name(url, folder)
    if file.is_file():
        _check_hash(file, expected, url)
        return file
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(file) as temporary:
            with temporary.open("wb") as opened:
                _download(url, opened, progress)
            _check_hash(temporary, expected, url)
    except OSError as error:
        raise InputError(
            f"{url} cannot be kept in {folder}: {reason(error)}; make it a folder "
            f"that can be written and has room, set {CACHE_VARIABLE} to another, or download it "
            "elsewhere and name its path"
        ) from None
    return file


def _described(path: Path) -> Path:
    return next((path / name for name in DESCRIPTIONS if (path / name).is_file()), path)


def _address(location: str) -> str:
    """Return the URL to ask for, without its fragment."""
    url = urldefrag(location).url
    parts = urlsplit(url)
    if parts.scheme == "gs":
        return f"https://storage.googleapis.com/{parts.netloc}{parts.path}"
    if parts.scheme == "s3":
        return f"https://{parts.netloc}.s3.amazonaws.com{parts.path}"
    if parts.scheme not in ("http", "https"):
        raise InputError(
            f"{url} cannot be downloaded: its address begins with {parts.scheme}://, and http, "
            "https, gs and s3 are known"
        )
    return url


def _expected_hash(location: str) -> str | None:
    fragment = urldefrag(location).fragment
    if not fragment.lower().startswith("sha256"):
        return None
    match = _HASH.fullmatch(fragment)
    if match is None:
        raise InputError(
            f"{location} ends in a hash that is none: #sha256= and 64 hexadecimal digits are needed"
        )
    return match[1].lower()


def _cached_name(url: str, folder: Path) -> Path:
    """Return where a URL is kept: its hash tells files of one name apart."""
    name = PurePosixPath(unquote(urlsplit(url).path)).name
    readable = re.sub(r"[^\w.-]", "_", name)[-80:] or "file"
    # A name of 80 characters can be too long in bytes.
    readable = shortened(readable[::-1], 200)[::-1]
    return folder / f"{hashlib.sha256(url.encode()).hexdigest()[:16]}-{readable}"


def _check_hash(file: Path, expected: str | None, url: str) -> None:
    """Remove a file that is not the expected one."""
    if expected is None:
        return
    found = sha256_of(file)
    if found != expected:
        file.unlink()
        raise InputError(
            f"{url} is not the file that was expected, and was not kept: its SHA-256 is {found} "
            f"and should be {expected}"
        )


def _download(url: str, file: BinaryIO, progress: Progress | None) -> None:
    # It is not needed where nothing is downloaded.
    import requests
    from requests.exceptions import InvalidSchema, RequestException, Timeout, TooManyRedirects

    elsewhere = "or download it elsewhere and name its path"
    # Compressed on the way, its length would not be that of the file.
    headers = {"Accept-Encoding": "identity"}
    has_begun = False
    try:
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT_SECONDS) as answer:
            if not answer.ok:
                raise InputError(
                    f"{url} cannot be downloaded: the server answers “{answer.status_code} "
                    f"{answer.reason}”; check the address"
                )
            has_begun = True
            done, total = _take(url, answer, file, progress)
    # Before OSError, of which it is a kind.
    except RequestException as error:
        if isinstance(error, InvalidSchema | TooManyRedirects):
            why = "it leads on to another address, which cannot be followed; check the address"
        elif has_begun:
            why = "the connection broke off; try again"
        elif isinstance(error, Timeout):
            why = f"there was no answer for {TIMEOUT_SECONDS} s; try again later"
        else:
            why = "the server cannot be reached; check the address and the connection"
        raise InputError(f"{url} cannot be downloaded: {why}, {elsewhere}") from None
    if not done:
        raise InputError(f"{url} cannot be downloaded: the server sends an empty file")
    if done < total:
        raise InputError(
            f"{url} cannot be downloaded: the connection broke off; try again, {elsewhere}"
        )


def _take(url: str, answer: Any, file: BinaryIO, progress: Progress | None) -> tuple[int, int]:
    """Write what a server sends; return how many bytes that were, and how many it had told of."""
    is_page = answer.headers.get("content-type", "").lower().startswith("text/html")
    length = answer.headers.get("content-length", "0")
    if not length.isdecimal():
        raise InputError(
            f"{url} cannot be downloaded: the server says that it has “{length}” bytes"
        )
    done, total = 0, int(length)
    for chunk in answer.iter_content(CHUNK_BYTES):
        if is_page or (not done and is_web_page(chunk)):
            raise InputError(
                f"{url} leads to a web page and not to a file: use the link of the download "
                "itself (of Dropbox that with dl=1), or download it elsewhere and name its path"
            )
        done += len(chunk)
        if max(done, total) > LARGEST_BYTES:
            raise InputError(
                f"{url} has more than {LARGEST_BYTES / 2**30:g} GiB, which is no network; if it "
                "is one all the same, download it elsewhere and name its path"
            )
        file.write(chunk)
        if progress is not None:
            progress(done, total or None)
    return done, total


def is_web_page(beginning: bytes) -> bool:
    """Whether a file that begins so is HTML."""
    return beginning.lstrip().lower().startswith((b"<!doctype html", b"<html"))

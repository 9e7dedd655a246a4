"""Folders of chunks and their metadata, on this machine or on a server, through tensorstore."""

import os
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np

from napari_synapse_cl.data.arrays import ReadArray, Region, first_line
from napari_synapse_cl.data.formats.chunks import Chunks
from napari_synapse_cl.data.formats.locations import Location
from napari_synapse_cl.data.formats.places import Messages, check_size, spatial_axes
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.system.environment import home, variable
from napari_synapse_cl.system.files import parse_json

CACHE_BYTES = 2**28
"""How much of the chunks that were read is kept, for all volumes together."""
RETRIES = {"max_retries": 3, "initial_delay": "200ms", "max_delay": "1s"}
"""A server that is down is given up after a few seconds."""
PATIENT_RETRIES = {"max_retries": 10, "initial_delay": "500ms", "max_delay": "60s"}
"""Where nobody waits at a screen, after some minutes."""
STALLED = {
    "TENSORSTORE_CURL_LOW_SPEED_TIME_SECONDS": "20",
    "TENSORSTORE_CURL_LOW_SPEED_LIMIT_BYTES": "1",
}
"""After so long without a byte an answer is asked for again: tensorstore reads it at its start."""
OPEN_SECONDS = 30
READ_SECONDS = 300
"""How long a server that accepts a request and does not answer is waited for."""

Documents = dict[str, dict[str, Any]]
"""JSON documents by their names."""


_is_patient = False


def be_patient() -> None:
    """Have this process ask servers again for minutes; before it opens the first volume."""
    global _is_patient
    _is_patient = True
    for name, value in STALLED.items():
        os.environ.setdefault(name, value)


@cache
def context() -> Any:
    """Return what all volumes share: the memory for chunks, and how servers are asked."""
    import tensorstore

    how = PATIENT_RETRIES if _is_patient else RETRIES
    retries = {f"{kind}_request_retries": how for kind in ("http", "gcs", "s3")}
    return tensorstore.Context({"cache_pool": {"total_bytes_limit": CACHE_BYTES}, **retries})


class Store:
    """A folder at a location."""

    def __init__(self, location: Location) -> None:
        self.location = location

    def inside(self, path: str) -> "Store":
        """Return a folder in it."""
        return Store(self.location.inside(path))

    def spec(self) -> dict[str, Any]:
        """Return how tensorstore names it."""
        base = self.location.base
        if not self.location.is_remote:
            # As text: a path of pathlib has no slash at its end.
            return {"driver": "file", "path": f"{Path(base).absolute().as_posix()}/"}
        parts = urlsplit(base)
        path = unquote(parts.path).strip("/")
        path = f"{path}/" if path else ""
        if parts.scheme == "gs":
            return {"driver": "gcs", "bucket": parts.netloc, "path": path}
        if parts.scheme == "s3":
            return {"driver": "s3", "bucket": parts.netloc, "path": path, **_s3_credentials()}
        query = f"?{parts.query}" if parts.query else ""
        return {
            "driver": "http",
            "base_url": f"{parts.scheme}://{parts.netloc}{query}",
            "path": f"/{path}",
        }

    def read_bytes(self, names: Iterable[str]) -> dict[str, bytes]:
        """Return those of some documents that exist, read at the same time.

        Raises
        ------
        InputError
            If a server cannot be reached or keeps something to itself.
        """
        found, refused = self._read(names)
        if refused and not found:
            raise InputError(f"{self.location.text} may not be read: {refused}")
        return found

    def probe(self, names: Iterable[str]) -> dict[str, bytes]:
        """Return those of some files that exist; what a server denies does not, for all it says.

        Raises
        ------
        InputError
            If a server cannot be reached.
        """
        return self._read(names)[0]

    def _read(self, names: Iterable[str]) -> tuple[dict[str, bytes], str]:
        """Return those of some files that exist, and what was said of others that are denied."""
        import tensorstore

        found, refused = {}, ""
        try:
            folder = tensorstore.KvStore.open(self.spec(), context=context()).result(OPEN_SECONDS)
            answers = {name: folder.read(name) for name in names}
        except Exception as error:
            raise self._unreachable(error) from error
        for name, answer in answers.items():
            try:
                read = answer.result(OPEN_SECONDS)
            except Exception as error:
                # Servers that list no folders deny what does not exist.
                if not _is_denied(error):
                    raise self._unreachable(error) from error
                refused = first_line(error)
                continue
            if read.state == "value":
                found[name] = read.value
        return found, refused

    def read(self, names: Iterable[str]) -> Documents:
        """Return those of some JSON documents that exist.

        Raises
        ------
        InputError
            If a server cannot be reached, or one of them is no JSON.
        """
        return {name: self._parsed(name, text) for name, text in self.read_bytes(names).items()}

    def folders(self) -> list[tuple[str, "Store"]]:
        """Return the folders in it by their names; none on a server, which may not list them."""
        if self.location.is_remote:
            return []
        with os.scandir(self.location.base) as entries:
            names = sorted(entry.name for entry in entries if entry.is_dir())
        return [(name, self.inside(name)) for name in names]

    def open_array(
        self,
        driver: dict[str, Any],
        names: Callable[[Any], list[str | None]],
        name: str,
    ) -> tuple[ReadArray, Messages]:
        """Open the array in this folder, and say what is to be told of it.

        Parameters
        ----------
        driver
            Which of tensorstore's drivers reads it, and what it needs to know.
        names
            Returns the names of the axes of the array that was opened.
        name
            How to call it in messages.

        Raises
        ------
        InputError
            If it cannot be opened, is no volume, or no memory holds one of its chunks.
        """
        import tensorstore

        spec = {
            **driver,
            "kvstore": self.spec(),
            "recheck_cached_data": "open",
            "recheck_cached_metadata": "open",
        }
        try:
            opening = tensorstore.open(spec, context=context(), open=True, read=True)
            array = opening.result(OPEN_SECONDS)
        except Exception as error:
            raise InputError(
                f"{self.location.text} cannot be read as a volume: {first_line(error)}"
            ) from error
        axes = spatial_axes(array.shape, names(array), self.location.text)
        others = [axis for axis in range(array.ndim) if axis not in axes]
        volume = array[tensorstore.d[:].translate_to[0]]
        if others:
            volume = volume[tensorstore.d[others][0]]
        kept = sorted(axes)
        volume = volume[tensorstore.d[[kept.index(axis) for axis in axes]].transpose[:]]
        place = self.location
        folder = None if place.is_remote else Path(place.base).absolute()
        chunks = Chunks(array, axes, place.text, folder, self.probe)
        check_size(volume.shape, chunks.n_bytes_read, place.text)

        def read(region: Region) -> np.ndarray:
            chunks.check(region)
            voxels = np.asarray(volume[region].read(order="C").result(READ_SECONDS))
            return chunks.completed(voxels, region)

        dtype = np.dtype(volume.dtype.numpy_dtype)
        read_array = ReadArray(
            tuple(volume.shape), dtype, read, name, place.is_remote, chunks.shape
        )
        return read_array, chunks.messages(name)

    def _parsed(self, name: str, text: bytes) -> dict[str, Any]:
        try:
            document = parse_json(text)
        except ValueError as error:
            raise InputError(
                f"{self.location.inside(name).text} is damaged: {first_line(error)}"
            ) from error
        return document if isinstance(document, dict) else {}

    def _unreachable(self, error: Exception) -> InputError:
        cause = first_line(error) or "no answer"
        verb = "reached" if self.location.is_remote else "read"
        return InputError(f"{self.location.text} cannot be {verb}: {cause}")


def _is_denied(error: Exception) -> bool:
    return str(error).startswith(("PERMISSION_DENIED", "UNAUTHENTICATED"))


def _s3_credentials() -> dict[str, Any]:
    """Return none where the machine has none: else the search for them takes seconds."""
    named = ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE")
    known = any(variable(name) for name in named) or _has_aws_folder()
    return {} if known else {"aws_credentials": {"type": "anonymous"}}


def _has_aws_folder() -> bool:
    folder = home()
    return folder is not None and (folder / ".aws").is_dir()

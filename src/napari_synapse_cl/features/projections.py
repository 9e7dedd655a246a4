"""Maps of vectors in two dimensions: principal components, and UMAP in a process of its own.

A map can be turned to lie as near as can be to another of the same vectors.

``python -m napari_synapse_cl.features.projections SEED`` reads vectors from its standard input, as
:func:`sent` makes them, and answers on its standard output with lines of JSON: how far it is, and
at last how many points follow as float32. It ends with whoever has started it. No PyTorch in here.
"""

import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import suppress
from importlib.util import find_spec
from typing import IO, Any

import numpy as np

from napari_synapse_cl.errors import InputError, JobError
from napari_synapse_cl.system.standard_input import incoming

N_NEIGHBORS = 15
"""That UMAP keeps near each other."""
LEAST = 4
"""Vectors of which UMAP makes a map."""
ROWS_AT_ONCE = 2**16
LIBRARY = "umap"


def principal_components(values: np.ndarray, n: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Return the leading principal components of vectors, and their shares of the variance.

    A hundred thousand vectors of 96 numbers take a tenth of a second or two.

    Parameters
    ----------
    values
        ``(N, C)`` float32, all finite.
    n
        Number of components.

    Returns
    -------
    components
        ``(N, n)`` float32; those beyond the rank of the data are 0. Of each direction the largest
        number is positive, so that a map is not the mirror image of another.
    shares
        ``(n,)``.
    """
    count, channels = values.shape
    components, shares = np.zeros((count, n), np.float32), np.zeros(n)
    if count < 2 or channels == 0:
        return components, shares
    parts = [values[i : i + ROWS_AT_ONCE] for i in range(0, count, ROWS_AT_ONCE)]
    mean = sum(part.sum(axis=0, dtype=np.float64) for part in parts) / count
    if count < channels:
        centred = values - mean
        vectors, lengths = _largest(centred @ centred.T, n)
        directions = centred.T @ vectors
        norms = np.linalg.norm(directions, axis=0)
        directions = np.divide(directions, norms, out=np.zeros_like(directions), where=norms > 0)
        total = float((centred**2).sum())
    else:
        products = np.zeros((channels, channels))
        for part in parts:
            centred = part - mean
            products += centred.T @ centred
        directions, lengths = _largest(products, n)
        total = float(np.trace(products))
    found = directions.shape[1]
    largest = directions[np.abs(directions).argmax(axis=0), np.arange(found)]
    directions = directions * np.where(largest < 0, -1, 1)
    for i, part in enumerate(parts):
        first = i * ROWS_AT_ONCE
        components[first : first + len(part), :found] = (part - mean) @ directions
    if total > 0:
        shares[:found] = np.maximum(lengths, 0) / total
    return components, shares


def _largest(products: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the eigenvectors with the largest eigenvalues, as columns, and these."""
    from scipy.linalg import eigh

    size = len(products)
    n = min(n, size)
    lengths, vectors = eigh(products, subset_by_index=(size - n, size - 1))
    return vectors[:, ::-1], lengths[::-1]


def turned_like(positions: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Return a map turned, and mirrored if need be, so that its points lie nearest to another's.

    Distances stay as they are. Principal components may change their signs and places when a few
    vectors move: so they do not.

    Parameters
    ----------
    positions, before
        ``(N, n)`` of the same vectors, each with its middle at 0.
    """
    left, _, right = np.linalg.svd(positions.T.astype(float) @ before)
    return np.asarray(positions @ (left @ right), positions.dtype)


def check_umap(n: int) -> None:
    """Make sure that UMAP can make a map of so many vectors.

    Raises
    ------
    InputError
        If it is not installed, or there are too few.
    """
    if find_spec(LIBRARY) is None:
        raise InputError(
            "UMAP needs the package umap-learn, which is not installed: "
            'pip install "napari-synapse-cl[umap]", or look at the principal components'
        )
    if n < LEAST:
        raise InputError(f"UMAP needs {LEAST} vectors at least, and these are {n}")


def sent(values: np.ndarray) -> tuple[bytes, memoryview]:
    """Return what the process is told of vectors ``(N, C)``, and their numbers."""
    values = np.ascontiguousarray(values, np.float32)
    return json.dumps({"shape": values.shape}).encode() + b"\n", values.data.cast("B")


def received(answer: IO[bytes], n: int) -> np.ndarray:
    """Return ``(n, 2)`` float32 that follow the last line of the process's answer."""
    return np.frombuffer(answer.read(8 * n), np.float32).reshape(n, 2)


def conversation(
    process: subprocess.Popen[bytes], values: np.ndarray
) -> Generator[tuple[int, int], None, np.ndarray]:
    """Have a process of this module make a map, and yield how many epochs of how many are done.

    The process, whose three streams are pipes, has ended after that.

    Parameters
    ----------
    values
        ``(N, C)`` float32, finite.

    Returns
    -------
    numpy.ndarray
        ``(N, 2)`` float32.

    Raises
    ------
    JobError
        If it ends without a map.
    """
    assert process.stdin is not None
    assert process.stdout is not None
    errors: list[bytes] = []
    # Else it would wait for someone to read what it warns of.
    reader = threading.Thread(target=lambda: errors.extend(process.stderr or ()), daemon=True)
    reader.start()
    with process:
        try:
            # Windows calls a pipe that nobody reads any more an invalid argument.
            with suppress(OSError):
                for part in sent(values):
                    process.stdin.write(part)
                process.stdin.flush()
            for line in process.stdout:
                message = json.loads(line)
                if "points" in message:
                    return received(process.stdout, message["points"])
                yield message["epoch"], message["of"]
        finally:
            process.kill()
            reader.join()
    last = errors[-1].decode(errors="replace").strip() if errors else "it was ended"
    raise JobError(f"UMAP could not make a map: {last}")


class _Epochs(io.TextIOBase):
    """What UMAP's progress is written to, as lines that a program reads."""

    def __init__(self, answer: IO[bytes]) -> None:
        self._answer = answer

    def write(self, text: str) -> int:
        done, _, total = text.strip().partition("/")
        if done.isdigit() and total.isdigit():
            _tell(self._answer, {"epoch": int(done), "of": int(total)})
        return len(text)


def _tell(answer: IO[bytes], message: dict[str, Any]) -> None:
    answer.write(json.dumps(message).encode() + b"\n")
    answer.flush()


def _end_with(given: IO[bytes]) -> None:
    """End this process when whoever started it has gone, or wants nothing more."""
    for _ in incoming(given):
        pass
    os._exit(1)


def main(seed: int) -> None:
    """Make a map of the vectors in standard input."""
    answer = os.fdopen(os.dup(1), "wb")
    # What libraries print is no part of the answer.
    sys.stdout = sys.stderr
    given = sys.stdin.buffer
    count, channels = json.loads(given.readline())["shape"]
    numbers = given.read(4 * count * channels)
    values = np.frombuffer(numbers, np.float32).reshape(count, channels)
    threading.Thread(target=_end_with, args=(given,), daemon=True).start()
    positions = _umap(values, seed, answer).astype(np.float32)
    _tell(answer, {"points": len(positions)})
    answer.write(positions.tobytes())
    answer.flush()


def _umap(values: np.ndarray, seed: int, answer: IO[bytes]) -> np.ndarray:
    from umap import UMAP

    # From the principal components it keeps their order in the large, and it needs no spectrum,
    # which few points, or points that are all alike, do not have.
    start, _ = principal_components(values)
    spread = float(np.abs(start).max()) or 1.0
    # Points at one place would never part.
    noise = np.random.default_rng(seed).normal(scale=1e-4, size=start.shape)
    return np.asarray(
        UMAP(
            n_neighbors=min(N_NEIGHBORS, len(values) - 1),
            init=(10 * start / spread + noise).astype(np.float32),
            random_state=seed,
            n_jobs=1,
            verbose=True,
            tqdm_kwds={"file": _Epochs(answer), "bar_format": "{n_fmt}/{total_fmt}\n"},
        ).fit_transform(values)
    )


if __name__ == "__main__":
    main(int(sys.argv[1]))

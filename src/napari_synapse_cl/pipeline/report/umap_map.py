"""UMAP for a report, in a process of its own that can be ended at any time."""

import json
import subprocess
import sys
from collections.abc import Generator
from contextlib import suppress
from threading import Thread

import numpy as np

from napari_synapse_cl.errors import JobError
from napari_synapse_cl.features import projections
from napari_synapse_cl.features.neighbours import Step
from napari_synapse_cl.features.projections import received, sent


def umap_positions(values: np.ndarray, seed: int) -> Generator[Step, None, np.ndarray]:
    """Make a map of vectors, and yield how far that is.

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
        If the process ends without a map.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", projections.__name__, str(seed)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    errors: list[bytes] = []
    # Else it would wait for someone to read what it warns of.
    reader = Thread(target=lambda: errors.extend(process.stderr or ()), daemon=True)
    reader.start()
    with process:
        try:
            with suppress(BrokenPipeError):
                for part in sent(values):
                    process.stdin.write(part)
                process.stdin.flush()
            for line in process.stdout:
                message = json.loads(line)
                if "points" in message:
                    return received(process.stdout, message["points"])
                yield "making a map", message["epoch"], message["of"], "epoch"
        finally:
            process.kill()
            reader.join()
    last = errors[-1].decode(errors="replace").strip() if errors else "it was ended"
    raise JobError(f"UMAP could not make a map: {last}")

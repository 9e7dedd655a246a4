"""The sample volume on the disk: drawn once, and read from there after that.

``python -m napari_synapse_cl.data.sample.storage FILE SEED`` draws it into a file, and tells on
standard output how far that is.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_synapse_cl import __version__
from napari_synapse_cl.data import pd
from napari_synapse_cl.data.parts import AXES
from napari_synapse_cl.errors import reason
from napari_synapse_cl.runs.events import Message, Progress, to_line
from napari_synapse_cl.system.environment import cache_folder
from napari_synapse_cl.system.files import replacing

CACHE = cache_folder()
"""Where it is kept; None where there is no place for it."""
UNREADABLE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)
"""What NumPy raises of a damaged file."""

VOXEL_SIZE = (10.0, 10.0, 10.0)
"""Edge lengths of a voxel along z, y, x, nanometres."""


@dataclass(frozen=True)
class Sample:
    """A volume with its annotated synapses."""

    image: NDArray[np.uint8]
    """``(Z, Y, X)`` grey values."""
    synapses: pd.DataFrame
    """One row per synapse: ``z``, ``y``, ``x`` (int, voxels) and ``class`` (str)."""
    voxel_size: tuple[float, float, float]
    """Edge lengths of a voxel along z, y, x, in nanometres."""


Draw = Callable[[Path, int], Iterator[Progress]]
"""Draws a sample of a seed into a file, and tells how far it is."""


def sample_events(draw: Draw, seed: int = 0) -> Iterator[Message | Progress | Sample]:
    """Tell what is done to have the sample volume, and at last yield it.

    It is read from the cache where it was drawn before. A file that is damaged is drawn anew, and
    where the cache cannot be written nothing is kept; both are told.

    Parameters
    ----------
    draw
        Draws it.
    seed
        Determines the sample, with the version of this package.
    """
    file = None if CACHE is None else CACHE / f"sample-{__version__}-{seed}.npz"
    if file is not None and file.exists():
        try:
            yield read_sample(file)
            return
        except UNREADABLE as error:
            told = f"the sample volume in {file} is damaged, and is drawn anew: {reason(error)}"
            yield Message(told, "warning")
    yield Message("drawing the sample: up to a minute")
    with tempfile.TemporaryDirectory() as folder:
        drawn = Path(folder) / "sample.npz"
        yield from draw(drawn, seed)
        sample = read_sample(drawn)
        problem = _keep(drawn, file)
    if problem is not None:
        told = f"the sample volume cannot be kept, and is drawn anew each time: {problem}"
        yield Message(told, "warning")
    yield sample


def read_sample(file: Path) -> Sample:
    """Read a sample that :func:`write_sample` has written.

    Raises
    ------
    Exception
        One of :data:`UNREADABLE`, if it is damaged or something else.
    """
    # Opened here, since np.load leaves a damaged file open.
    with file.open("rb") as opened, np.load(opened, allow_pickle=False) as content:
        table = pd.DataFrame(content["positions"], columns=AXES)
        table = table.assign(**{"class": content["classes"].tolist()})
        return Sample(content["image"], table, VOXEL_SIZE)


def write_sample(file: Path, sample: Sample) -> None:
    """Write a sample to a file."""
    np.savez(
        file,
        image=sample.image,
        positions=sample.synapses[list(AXES)].to_numpy(),
        classes=sample.synapses["class"].to_numpy(str),
    )


def _keep(drawn: Path, file: Path | None) -> str | None:
    """Copy a file into the cache; say why that cannot be, if it cannot."""
    if file is None:
        return "there is no folder for it"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as temporary:
            shutil.copyfile(drawn, temporary)
    except OSError as error:
        return f"{file.parent}: {reason(error)}"
    return None


def main(file: str, seed: str) -> None:
    """Draw a sample into a file."""
    # It takes SciPy's slower parts, which nobody needs who reads.
    from napari_synapse_cl.data.sample.volume import N_STEPS, make_sample

    def tell(n_done: int) -> None:
        event = Progress("drawing the sample volume", n_done, N_STEPS, "step")
        sys.stdout.write(to_line(event) + "\n")
        sys.stdout.flush()

    write_sample(Path(file), make_sample(int(seed), tell=tell))


if __name__ == "__main__":
    main(*sys.argv[1:])

"""The sample volume, drawn once and then kept in the user's cache folder."""

import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd

from napari_synapse_cl import __version__
from napari_synapse_cl.data.sample import VOXEL_SIZE, Sample, make_sample
from napari_synapse_cl.data.synapses import AXES
from napari_synapse_cl.environment import cache_folder
from napari_synapse_cl.files import replacing

CACHE = cache_folder()
"""Where it is kept; None where there is no place for it."""


def cached_sample(seed: int = 0) -> Sample:
    """Return the sample volume, read from the cache where it was drawn before.

    A file that is damaged is drawn anew. Where the cache cannot be written, nothing is kept.

    Parameters
    ----------
    seed
        Determines the sample, with the version of this package.
    """
    if CACHE is None:
        return make_sample(seed)
    file = CACHE / f"sample-{__version__}-{seed}.npz"
    # np.load raises a wide range of types on a damaged file.
    with suppress(OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return _read(file)
    sample = make_sample(seed)
    with suppress(OSError):
        CACHE.mkdir(parents=True, exist_ok=True)
        with replacing(file) as temporary:
            _write(temporary, sample)
    return sample


def _read(file: Path) -> Sample:
    # Opened here, since np.load leaves a damaged file open.
    with file.open("rb") as opened, np.load(opened, allow_pickle=False) as content:
        table = pd.DataFrame(content["positions"], columns=AXES)
        table = table.assign(**{"class": content["classes"].tolist()})
        return Sample(content["image"], table, VOXEL_SIZE)


def _write(file: Path, sample: Sample) -> None:
    np.savez(
        file,
        image=sample.image,
        positions=sample.synapses[list(AXES)].to_numpy(),
        classes=sample.synapses["class"].to_numpy(str),
    )

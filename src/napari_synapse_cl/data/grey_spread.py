"""How far the grey values of a volume spread, in which ranges of augmentations can count."""

from dataclasses import replace

import numpy as np

from napari_synapse_cl.config import Config
from napari_synapse_cl.data.crops.cutting import centre_of
from napari_synapse_cl.data.crops.sources import CropSource, StreamedCrops
from napari_synapse_cl.data.dataset import Dataset
from napari_synapse_cl.data.parts import Positions
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.system.words import counted, listing

N_CROPS = 32
"""Of each volume, evenly from the first to the last synapse of its table."""


def with_grey_spread(config: Config, dataset: Dataset) -> tuple[Config, Dataset]:
    """Return settings that say how far grey values spread, and a dataset that tells it.

    Both are as they were where ranges do not count in spreads. Spreads that the settings name, as
    those of a run that is gone on with do, are not measured again.

    Raises
    ------
    InputError
        If the settings name spreads of another number of volumes, or one cannot be measured.
    """
    if config.grey_unit == "absolute":
        return config, dataset
    n_volumes = len(dataset.image_sizes)
    if config.grey_spread:
        if len(config.grey_spread) not in (1, n_volumes):
            raise InputError(
                f"grey_spread has {counted(len(config.grey_spread), 'value')}, and there "
                f"{'is' if n_volumes == 1 else 'are'} {counted(n_volumes, 'volume')}: give one for "
                "each, or one for all"
            )
        spreads, how = config.grey_spread, "as the settings say"
    else:
        source = dataset.crop_source(config, config.crop_size)
        spreads = measure_spreads(source, config.crop_size, n_volumes)
        how = f"the standard deviation in up to {N_CROPS} crops of each volume"
    text = (
        f"ranges of brightness and noise count in the spread of grey values, "
        f"{listing([f'{spread:g}' for spread in spreads])}: {how}"
    )
    told = replace(dataset, messages=(*dataset.messages, (text, "info")))
    return config.model_copy(update={"grey_spread": spreads}), told


def measure_spreads(
    source: CropSource, crop_size: tuple[int, int, int], n_volumes: int
) -> tuple[float, ...]:
    """Return the standard deviation of the grey values of each volume, to four digits.

    It is that of all voxels of some of its crops, as the network sees them: in [0, 1], and masked
    where the settings say so.

    Parameters
    ----------
    source
        Its crops, which may be larger.
    crop_size
        Size of what the network sees, along z, y, x.
    n_volumes
        How many volumes there are. One without a synapse, by which nothing is drawn, gets 1.

    Raises
    ------
    InputError
        If no crop that is looked at can be used, or all of them are of one grey.
    """
    if isinstance(source, StreamedCrops):
        # Without the context, which would have to be read too.
        source = StreamedCrops(
            source.parts, source.positions, source.config, crop_size, source.voxel_size
        )
    volumes = source.positions.volumes
    volumes = np.zeros(len(source), dtype=int) if volumes is None else volumes
    spreads = []
    for number in range(n_volumes):
        synapses = np.flatnonzero(volumes == number)
        if not len(synapses):
            spreads.append(1.0)
            continue
        chosen = synapses[np.unique(np.linspace(0, len(synapses) - 1, N_CROPS).astype(int))]
        spread = _spread(source, chosen, crop_size)
        if not spread > 0:
            raise InputError(
                f"the spread of grey values cannot be measured: of {counted(len(chosen), 'crop')} "
                "that were looked at none can be used; give it as grey_spread"
            )
        spreads.append(float(f"{spread:.4g}"))
    return tuple(spreads)


def spreads_of(config: Config, positions: Positions, synapses: np.ndarray) -> list[float] | None:
    """Return how far the grey values around some synapses spread; None where nothing counts in it.

    Parameters
    ----------
    config
        Settings that say it for each volume.
    positions
        Of all synapses, with the volume of each.
    """
    if config.grey_unit == "absolute":
        return None
    spreads = np.array(config.grey_spread)
    if len(spreads) == 1 or positions.volumes is None:
        return [float(spreads[0])] * len(synapses)
    of_each: list[float] = spreads[positions.volumes[synapses]].tolist()
    return of_each


def _spread(source: CropSource, synapses: np.ndarray, crop_size: tuple[int, int, int]) -> float:
    n, total, squares = 0, 0.0, 0.0
    for synapse in synapses.tolist():
        crops, _ = source.read_usable([synapse])
        centre = crops[:, 0][(slice(None), *centre_of(source.shape, crop_size))]
        n += centre.size
        total += float(centre.sum(dtype=np.float64))
        squares += float(np.square(centre, dtype=np.float64).sum())
    return float(np.sqrt(max(0.0, squares / n - (total / n) ** 2))) if n else 0.0

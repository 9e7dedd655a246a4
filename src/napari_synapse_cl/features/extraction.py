"""Features of one layer, pooled to one vector a synapse."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from napari_synapse_cl.augmentations import centre_crop
from napari_synapse_cl.data.crops import CropSource
from napari_synapse_cl.devices import autocast, to_device
from napari_synapse_cl.errors import JobError
from napari_synapse_cl.files import replacing
from napari_synapse_cl.models.vgg3d import Vgg3D, to_network_range

Pooling = Literal["mean", "max"]

BATCH_VOXELS = 16 * 80**3
"""Voxels that go through the network at once: 16 crops of 80³."""


def feature_columns(layer: int, pooling: Pooling, channels: int) -> list[str]:
    """Return the names of the feature columns: ``L20_mean_000`` and so on."""
    return [f"L{layer}_{pooling}_{channel:03d}" for channel in range(channels)]


def extract_features(
    network: Vgg3D,
    crops: CropSource,
    crop_size: tuple[int, int, int],
    *,
    layer: int,
    pooling: Pooling,
    device: torch.device,
    precision: str,
) -> Iterator[np.ndarray]:
    """Yield the pooled output of a layer, batch by batch, in the order of the crops.

    The network runs no further than that layer, in evaluation mode.

    Parameters
    ----------
    network
        The network to read; it is moved to the device.
    crops
        Crops at least as large as `crop_size`.
    crop_size
        What the network sees of each crop, at its centre.
    layer
        Index into the network's ``features``.
    pooling
        How the map of each channel becomes one number.
    device, precision
        Where and how precisely to compute; pooling is float32.

    Yields
    ------
    numpy.ndarray
        ``(B, C)`` float32.

    Raises
    ------
    JobError
        If the device runs out of memory.
    """
    truncated = nn.Sequential(*list(network.features)[: layer + 1]).eval()
    to_device(truncated, device)
    batch_size = max(1, BATCH_VOXELS // int(np.prod(crop_size)))
    for first in range(0, len(crops), batch_size):
        synapses = range(first, min(first + batch_size, len(crops)))
        batch = centre_crop(torch.from_numpy(crops.read(synapses)), crop_size).to(device)
        batch = to_network_range(batch).contiguous(memory_format=torch.channels_last_3d)
        try:
            with torch.inference_mode(), autocast(device, precision):
                output = pool(truncated(batch), pooling)
        except torch.OutOfMemoryError as error:
            raise JobError(
                f"the device {device} ran out of memory while extracting features; choose cpu, or "
                "a smaller crop_size"
            ) from error
        yield output.cpu().numpy()


def pool(features: Tensor, pooling: Pooling) -> Tensor:
    """Pool ``(B, C, d, h, w)`` maps to ``(B, C)`` float32 vectors."""
    flat = features.flatten(2).float()
    return flat.mean(dim=2) if pooling == "mean" else flat.amax(dim=2)


def feature_table(
    table: pd.DataFrame, rows: np.ndarray, features: np.ndarray, columns: list[str]
) -> pd.DataFrame:
    """Join features to the table of synapses; rows without features have none.

    Parameters
    ----------
    table
        M synapses.
    rows
        ``(N,)``, row in the table of each feature vector.
    features
        ``(N, C)`` float32.
    columns
        Names of the C features; columns of these names are replaced.
    """
    values = np.full((len(table), len(columns)), np.nan, dtype=np.float32)
    values[rows] = features
    joined = pd.DataFrame(values, columns=columns, index=table.index)
    return pd.concat([table.drop(columns=columns, errors="ignore"), joined], axis=1)


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a table as CSV or, by its suffix, Parquet, whole or not at all.

    Raises
    ------
    JobError
        If it cannot be written.
    """
    try:
        with replacing(path) as temporary:
            if path.suffix == ".parquet":
                table.to_parquet(temporary, index=False)
            else:
                table.to_csv(temporary, index=False)
    except OSError as error:
        raise JobError(f"cannot write the feature table {path}: {error.strerror}") from error

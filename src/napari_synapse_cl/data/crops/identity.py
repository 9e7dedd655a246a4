"""Tell which crops a cache holds, by what they were cut from and how."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from napari_synapse_cl.config import CropConfig
from napari_synapse_cl.data.crops.cutting import cut_crop
from napari_synapse_cl.data.crops.sources import StreamedCrops
from napari_synapse_cl.data.formats.fingerprints import fingerprint
from napari_synapse_cl.data.intensity import sample_blocks
from napari_synapse_cl.data.labels import AlignedLabels
from napari_synapse_cl.data.parts import Part
from napari_synapse_cl.data.synapses import Positions
from napari_synapse_cl.data.volumes import Volume

VERSION = 2
"""Of the files in a cache; others are not read."""
LOOKED_AT = 8
"""Crops of a volume that is a folder which are looked at, to see whether it has changed."""
LOOKED_AT_SHAPE = (16, 16, 16)


def cache_folder(source: StreamedCrops, parent: Path) -> Path:
    """Return the folder in `parent` for the cache of these crops, named by what they are."""
    identity = json.dumps(_identity(source), sort_keys=True)
    return parent / f"crops-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"


def crop_settings(config: CropConfig) -> dict[str, Any]:
    """Return the settings, in plain types, that crops cannot be changed in once they are cut."""
    names = set(CropConfig.model_fields) - {"crop_size", "network_voxel_size"}
    return config.model_dump(mode="json", include=names)


def _identity(source: StreamedCrops) -> dict[str, Any]:
    """Say which crops these are."""
    places = hashlib.sha256()
    positions = source.positions
    arrays = (positions.voxels, positions.volumes, *positions.partners.values())
    for array in arrays:
        places.update(b"" if array is None else np.ascontiguousarray(array).tobytes())
    return {
        "version": VERSION,
        "shape": source.shape,
        "crop_size": source.config.crop_size,
        "settings": crop_settings(source.config),
        "voxel_size": source.voxel_size,
        "positions": places.hexdigest(),
        "parts": [_part(part, _some_of(positions, i)) for i, part in enumerate(source.parts)],
    }


def _some_of(positions: Positions, volume: int) -> np.ndarray:
    """Return where a few of the crops of a volume lie."""
    voxels = positions.voxels
    if positions.volumes is not None:
        voxels = voxels[positions.volumes == volume]
    n = len(voxels)
    return voxels[np.unique(np.linspace(0, n - 1, min(n, LOOKED_AT)).astype(int))]


def _part(part: Part, places: np.ndarray) -> dict[str, Any]:
    def labels_of(labels: AlignedLabels | None) -> Any:
        if labels is None:
            return None
        blocks = (labels.cut(place, LOOKED_AT_SHAPE) for place in places.tolist())
        aligned = [labels.scale.tolist(), labels.start.tolist()]
        return [*_voxels_of(labels.volume, blocks), *aligned]

    blocks = (cut_crop(part.volume, place, LOOKED_AT_SHAPE) for place in places.tolist())
    return {
        "image": _voxels_of(part.volume, blocks),
        "voxel_size": part.voxel_size,
        "labels": labels_of(part.labels),
        "segmentation": labels_of(part.segmentation),
        "roles": dict(part.roles),
    }


def _voxels_of(volume: Volume, blocks: Iterable[np.ndarray]) -> list[Any]:
    """Say which voxels these are: those of a file by it, others by some blocks of them."""
    # How values were read is part of what they are; of most formats there is nothing to tell.
    described: list[Any] = [
        *volume.shape,
        str(volume.array.dtype),
        *(text for text, _ in volume.messages),
    ]
    if volume.location is not None:
        described += fingerprint(volume.location)
        if not Path(volume.location).is_dir():
            return described
        # Of a folder only what describes it was looked at, and chunks may have been written anew.
    else:
        blocks = sample_blocks(volume)
    sample = hashlib.sha256()
    for block in blocks:
        sample.update(np.ascontiguousarray(block).tobytes())
    return [*described, sample.hexdigest()]

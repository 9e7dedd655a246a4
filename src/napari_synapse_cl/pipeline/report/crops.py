"""Crops of the rows of a feature table: where they are cut, and the strips that a page shows."""

import base64
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np

from napari_synapse_cl.config import Config, CropConfig, possible_value, read_settings
from napari_synapse_cl.data.crops.cutting import centre_of
from napari_synapse_cl.data.crops.sources import CropSource
from napari_synapse_cl.data.dataset import VOLUME_COLUMN, Dataset, assemble
from napari_synapse_cl.data.opening import entries_of, open_dataset, open_part
from napari_synapse_cl.data.parts import AXES
from napari_synapse_cl.data.placing import IN_VOXELS, place
from napari_synapse_cl.data.tables import interpret
from napari_synapse_cl.data.tables.columns import as_numbers, as_text
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.pipeline.exploring_preparation import Exploration, StoppedError
from napari_synapse_cl.runs.events import Event, Progress
from napari_synapse_cl.runs.folder import RunFolder
from napari_synapse_cl.system.words import Triple, VoxelSize, size, triple

MOST_CROPS = 2000
N_SLICES, SIDE, QUALITY = 9, 48, 70
"""Slices of a strip, evenly through the depth of the crop, their longer side in pixels, and the
quality of their JPEG: as PNG the noise of EM would take four times as many bytes."""
MOST_CHARACTERS = 13 * 2**20
"""Of all strips together, in base64."""
AT_ONCE = 16
CONTRAST = (0.5, 99.5)
"""Percentiles of the grey values that become black and white, of all crops alike."""
CONTRAST_CROPS = 64
OF_TISSUE: dict[str, Any] = {"keep": "everything", "presynaptic_shift": 0.0}
"""What crops need label volumes for, and pictures can do without."""
CHOSEN = ("crop_size", "network_voxel_size", "intensity", "percentiles", "invert")
"""Settings of crops that a person may give in place of those of the features."""


@dataclass(frozen=True)
class Crops:
    """Crops of the M rows of a table."""

    source: CropSource
    numbers: np.ndarray
    """``(M,)`` int64, which crop of the source each row has; −1 for none."""
    shape: Triple
    """Size of a crop along z, y, x as the network sees it."""
    text: str
    """Where they are from, in words."""

    def read(self, rows: Sequence[int]) -> tuple[np.ndarray, list[int]]:
        """Return crops ``(B, D, H, W)`` float32 in [0, 1] of rows that have one, and these rows."""
        known = {int(self.numbers[row]): row for row in rows if self.numbers[row] >= 0}
        if not known:
            return np.empty((0, *self.shape), np.float32), []
        crops, usable = self.source.read_usable(list(known))
        inner = centre_of(self.source.shape, self.shape)
        return crops[(slice(None), 0, *inner)], [known[int(number)] for number in usable]


def open_crops(job: Exploration, run: RunFolder | None) -> tuple[Crops | None, str]:
    """Find where the crops of a table are cut from.

    Parameters
    ----------
    run
        The training that the features come from, whose data are taken where none are named.

    Returns
    -------
    crops
        None where they are not to be had.
    why
        Why that is so, in words.

    Raises
    ------
    InputError
        If the image that is named cannot be read, or the rows lie elsewhere.
    """
    if job.config.image is not None or job.config.dataset is not None:
        return _of_named(job), ""
    if run is None:
        return None, "no image is named, and the table lies in no folder of a run that names one"
    try:
        return _of_run(job, run), ""
    # What a run was made from may have gone, or may have become anything.
    except InputError as error:
        return None, f"what the run {run.name} was trained on is not to be had: {error}"


def _record(job: Exploration) -> dict[str, Any]:
    return job.vectors.record_of(job.vectors.names[0])


def _known_size(record: dict[str, Any]) -> VoxelSize | None:
    found = record.get("voxel_size")
    if not isinstance(found, list) or len(found) != 3:
        return None
    return triple(float(n) for n in found)


def _chosen(job: Exploration) -> dict[str, Any]:
    """Return the settings of crops that a person has given."""
    given = job.config.model_fields_set
    return {name: getattr(job.config, name) for name in CHOSEN if name in given}


def _settings(job: Exploration, record: dict[str, Any]) -> Config:
    """Return settings that make crops as those of the features were, without label volumes."""
    told = record.get("settings")
    told = dict(told) if isinstance(told, dict) else {}
    told |= {"crop_size": record["crop_size"]} if "crop_size" in record else {}
    names = [name for name in CropConfig.model_fields if told.get(name) is not None]
    found = {name: possible_value(name, told[name]) for name in names} | _chosen(job)
    # A crop that reaches outside is shown all the same.
    found |= {"borders": "reflect"} if found.get("borders") == "exclude" else {}
    return job.config.model_copy(update={**found, **OF_TISSUE})


def _of_named(job: Exploration) -> Crops:
    record, table = _record(job), job.vectors.table
    config = _settings(job, record)
    wanted = config.network_voxel_size or _known_size(record)
    entries = entries_of(config)
    parts, placed, rows = [], [], []
    for name, entry in entries.items():
        own = np.arange(len(table))
        if len(entries) > 1:
            if VOLUME_COLUMN not in table:
                raise InputError(
                    f"the dataset has {len(entries)} volumes, and {job.config.features} has no "
                    f"column {VOLUME_COLUMN} that says which of them a row lies in"
                )
            own = np.flatnonzero(table[VOLUME_COLUMN].map(as_text) == name)
            if not len(own):
                continue
        part, finest = open_part(entry, wanted, name)
        told = f"the feature table {job.config.features}"
        found = interpret(table[list(AXES)].iloc[own].reset_index(drop=True), told, IN_VOXELS)
        parts.append(part)
        placed.append(place(found, told, part.volume, finest))
        rows.append(own)
    if not parts:
        raise InputError(
            f"no row of {job.config.features} lies in a volume of {job.config.dataset}, by the "
            f"names in its column {VOLUME_COLUMN}"
        )
    dataset = assemble(parts, placed, config, wanted)
    text = f"crops are cut from {dataset.name}"
    changed = record.get("settings")
    if isinstance(changed, dict) and any(
        changed.get(name, value) != value for name, value in OF_TISSUE.items()
    ):
        text += "; they show the tissue around each position, without masks and not moved"
    return _crops(dataset, config, np.concatenate(rows), len(table), config.crop_size, text)


def _of_run(job: Exploration, run: RunFolder) -> Crops:
    record, table = _record(job), job.vectors.table
    config = Config.from_values(read_settings(run.config_file))
    dataset = open_dataset(config, _known_size(record))
    own, others = (
        np.stack([as_numbers(some[axis]) for axis in AXES], axis=1)
        for some in (table, dataset.table)
    )
    if own.shape != others.shape or not np.allclose(own, others, atol=1e-3, equal_nan=True):
        raise InputError(
            "its synapses are others than those of this table; name the image of these as image"
        )
    told = {"crop_size": record["crop_size"]} if "crop_size" in record else {}
    told = {name: possible_value(name, value) for name, value in told.items()}
    config = config.model_copy(update={**told, **_chosen(job)})
    text = f"crops are those of the run {run.name}, from {dataset.name}"
    return _crops(dataset, config, np.arange(len(table)), len(table), config.crop_size, text)


def _crops(
    dataset: Dataset, config: Config, rows: np.ndarray, n: int, shape: Triple, text: str
) -> Crops:
    source = dataset.crop_source(config, shape)
    numbers = np.full(n, -1)
    numbers[rows[dataset.positions.rows]] = np.arange(len(dataset.positions.rows))
    return Crops(source, numbers, shape, f"{text}, {size(shape)} voxels along z, y, x")


def cut_strips(
    job: Exploration, crops: Crops, rows: Sequence[int]
) -> Generator[Event, None, dict[int, str]]:
    """Cut crops, and lay slices of each side by side in a picture.

    Parameters
    ----------
    rows
        Those that are cut, as far as there is room for them.

    Returns
    -------
    dict
        JPEG files in base64 by row.
    """
    strips: dict[int, str] = {}
    n_characters, bounds = 0, None
    for start in range(0, len(rows), AT_ONCE):
        yield Progress("cutting crops", start, len(rows))
        yield from job.control.pauses()
        if job.control.stopping:
            raise StoppedError
        if bounds is None:
            some, _ = crops.read(rows[: start + CONTRAST_CROPS])
            bounds = np.percentile(some, CONTRAST) if len(some) else None
        found, usable = crops.read(rows[start : start + AT_ONCE])
        for row, crop in zip(usable, found, strict=True):
            assert bounds is not None
            strips[row] = base64.b64encode(as_strip(crop, *bounds.tolist())).decode()
            n_characters += len(strips[row])
        if n_characters > MOST_CHARACTERS:
            break
    yield Progress("cutting crops", len(rows), len(rows))
    return strips


def as_strip(crop: np.ndarray, low: float, high: float) -> bytes:
    """Return slices of a crop side by side, the shallowest first, as a JPEG file.

    Parameters
    ----------
    crop
        ``(D, H, W)``.
    low, high
        Values that become black and white.
    """
    from PIL import Image

    depths = np.linspace(0, len(crop) - 1, N_SLICES).round().astype(int)
    grey = (crop[depths] - low) * (255 / ((high - low) or 1))
    grey = grey.clip(0, 255).astype(np.uint8)
    height, width = slice_size(crop.shape[1:])
    strip = Image.new("L", (N_SLICES * width, height))
    for number, values in enumerate(grey):
        smaller = Image.fromarray(values).resize((width, height), Image.Resampling.BOX)
        strip.paste(smaller, (number * width, 0))
    file = BytesIO()
    strip.save(file, "JPEG", quality=QUALITY, optimize=True)
    return file.getvalue()


def slice_size(shape: Sequence[int]) -> tuple[int, int]:
    """Return how large a slice of crops of some size ``(H, W)`` is shown, in pixels."""
    share = min(1.0, SIDE / max(shape))
    height, width = (max(1, round(n * share)) for n in shape)
    return height, width

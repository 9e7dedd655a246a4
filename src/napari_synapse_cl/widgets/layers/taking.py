"""What a job takes from layers: a volume, synapses in its voxels with their features, labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from napari.layers import Image, Labels, Points
from numpy.typing import ArrayLike

from napari_synapse_cl.config import Config, values_by_role
from napari_synapse_cl.data import pd
from napari_synapse_cl.data.arrays import nearest_voxel
from napari_synapse_cl.data.dataset import Dataset, assemble
from napari_synapse_cl.data.formats.places import nanometres
from napari_synapse_cl.data.parts import AXES, Part
from napari_synapse_cl.data.placing import Placed, place_points
from napari_synapse_cl.data.volumes import AlignedLabels, Volume
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.widgets.layers.features import VOLUME_KEY, feature_match
from napari_synapse_cl.widgets.layers.voxels import (
    THE_LAYER,
    is_opened_with,
    labels_over,
    location_of,
    roles_of,
    volume_of,
    voxel_size_of,
    voxels_in,
)

MOST_LOOKED_AT = 10_000
"""Points whose place tells whether they belong to a volume."""
NEEDED = "an Image layer with a 3D volume and a Points layer with the synapses are needed"


@dataclass(frozen=True)
class LayerData:
    """A volume and its synapses as they were in the viewer at one moment."""

    volume: Volume
    """The image layer's data; of a multiscale layer its finest level."""
    table: pd.DataFrame
    """One row a point: z, y, x in voxels of the volume, and the layer's features."""
    voxel_size: tuple[float, float, float] | None
    """Voxel size along z, y, x in nm, or None where voxels are cubes of unknown size."""
    location: str | None
    """Path or URL that the image layer was opened from, if any."""
    labels: AlignedLabels | None = None
    segmentation: AlignedLabels | None = None
    """Label volumes of structures and of cells, if they were chosen."""
    label_locations: Mapping[str, str] = field(default_factory=dict)
    """Where they were opened from, by the names "labels" and "segmentation"."""
    roles: tuple[str, ...] = ()
    """Which values in `labels` are what, where these say it themselves, as the setting has it."""

    @property
    def placed(self) -> Placed:
        """The synapses in voxels of the volume.

        Raises
        ------
        InputError
            If none lies inside.
        """
        return place_points(self.table, self.volume, self.voxel_size)

    def part(self, config: Config) -> Part:
        """Return the volume with its labels, whose values the settings tell."""
        return Part(
            self.volume,
            config.voxel_size or self.voxel_size,
            self.labels,
            self.segmentation,
            values_by_role(config.roles or self.roles),
            self.volume.name.removeprefix(THE_LAYER),
        )


def dataset_of(
    several: Sequence[LayerData],
    config: Config,
    network_size: tuple[float, float, float] | None = None,
) -> Dataset:
    """Return the dataset that layers make.

    Parameters
    ----------
    several
        Volumes and their synapses.
    network_size
        Voxel size along z, y, x in nm that crops are resampled to where the settings name none.

    Raises
    ------
    InputError
        If no synapse lies inside, or crops cannot be brought to one voxel size.
    """
    parts = [data.part(config) for data in several]
    return assemble(parts, [data.placed for data in several], config, network_size)


def take(
    image: Image | None,
    points: Points | None,
    labels: Labels | None = None,
    segmentation: Labels | None = None,
) -> LayerData:
    """Take what a job needs from an image and a points layer, and from layers of labels.

    Raises
    ------
    InputError
        If a layer is missing, or is not 3D grey values, 3D points or 3D labels over the image.
    """
    if image is None or points is None:
        missing = "image" if image is None else "points"
        raise InputError(f"there is no {missing} layer: {NEEDED}")
    volume = volume_of(image)
    if points.ndim != 3:
        raise InputError(f"the layer {points.name} holds {points.ndim}D points; 3D ones are needed")
    if len(points.data) == 0:
        raise InputError(f"the layer {points.name} holds no points")
    table = _table(voxels_in(image, points, points.data), points.features)
    return _with_labels(image, volume, table, labels, segmentation)


def take_position(
    image: Image | None,
    position: ArrayLike | None,
    labels: Labels | None = None,
    segmentation: Labels | None = None,
) -> LayerData:
    """Take a position in an image layer for the only synapse of a table.

    Parameters
    ----------
    position
        z, y, x in its voxels.
    labels, segmentation
        As :func:`take` has them.

    Raises
    ------
    InputError
        If the layer or the position is missing, the layer is not 3D grey values, the position lies
        outside of it, or labels are not 3D labels over it.
    """
    if image is None:
        raise InputError("there is no image layer: an Image layer with a 3D volume is needed")
    volume = volume_of(image)
    if position is None:
        raise InputError("click in the viewer to choose a position")
    voxel = nearest_voxel(position)
    if ((voxel < 0) | (voxel >= volume.shape)).any():
        raise InputError(
            f"z, y, x = {', '.join(f'{v:.0f}' for v in voxel)} lies outside the layer "
            f"{image.name} of {' × '.join(map(str, volume.shape))} voxels; click inside of it"
        )
    table = pd.DataFrame([voxel], columns=list(AXES))
    return _with_labels(image, volume, table, labels, segmentation)


def mismatch(image: Image, points: Points) -> str | None:
    """Say why points seem to belong to another volume than an image, if they do.

    Of very many points some are looked at.
    """
    if image.rgb or image.ndim != 3 or points.ndim != 3 or not len(points.data):
        return None
    opened_with = is_opened_with(points, image)
    if opened_with:
        return None
    if opened_with is False:
        name = points.metadata[VOLUME_KEY]["name"]
        return f"{points.name} was opened with {name}, not with {image.name}"
    some = points.data[:: max(1, len(points.data) // MOST_LOOKED_AT)]
    shape = (image.data[0] if image.multiscale else image.data).shape
    voxels = voxels_in(image, points, some)
    outside = ~((voxels > -0.5) & (voxels < np.array(shape) - 0.5)).all(axis=1)
    units = [str(layer.units[-1]) for layer in (points, image)]
    counted_in = f"{units[0]}, the volume in {units[1]}"
    if outside.mean() <= 0.5:
        return f"{points.name} counts in {counted_in}" if _are_at_odds(points, image) else None
    counted_in = "" if units[0] == units[1] else f"; it counts in {counted_in}"
    return f"{outside.mean():.0%} of {points.name} lies outside of {image.name}{counted_in}"


def _are_at_odds(points: Points, image: Image) -> bool:
    """Whether one of two layers counts in lengths and the other does not, nor lies as it does."""
    in_lengths = [nanometres(layer.units[-1]) is not None for layer in (points, image)]
    lies_alike = not in_lengths[0] and np.allclose(points.scale, image.scale)
    return in_lengths[0] != in_lengths[1] and not lies_alike


def _with_labels(
    image: Image,
    volume: Volume,
    table: pd.DataFrame,
    labels: Labels | None,
    segmentation: Labels | None,
) -> LayerData:
    chosen = {"labels": labels, "segmentation": segmentation}
    layers = {name: layer for name, layer in chosen.items() if layer is not None}
    places = {name: location_of(layer) for name, layer in layers.items()}
    return LayerData(
        volume=volume,
        table=table,
        voxel_size=voxel_size_of(image),
        location=location_of(image),
        label_locations={name: place for name, place in places.items() if place is not None},
        roles=() if labels is None else roles_of(labels),
        **{name: labels_over(image, layer) for name, layer in layers.items()},
    )


def _table(voxels: np.ndarray, features: pd.DataFrame) -> pd.DataFrame:
    table = pd.DataFrame(voxels, columns=list(AXES))
    others = [name for name in features.columns if name not in AXES and not feature_match(name)]
    return pd.concat([table, features[others].reset_index(drop=True)], axis=1)

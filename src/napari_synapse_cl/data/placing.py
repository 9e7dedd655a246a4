"""Find the synapses of a table in a volume, and where their crops are centred."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from napari_synapse_cl.config import Config
from napari_synapse_cl.data import pd
from napari_synapse_cl.data.arrays import nearest_voxel
from napari_synapse_cl.data.crops.cutting import CUBES
from napari_synapse_cl.data.crops.masks import presynaptic_side
from napari_synapse_cl.data.crops.recipes import SIDES, Recipe
from napari_synapse_cl.data.parts import AXES, Part
from napari_synapse_cl.data.tables import Mapping as TableMapping
from napari_synapse_cl.data.tables import PositionTable, in_voxels, interpret
from napari_synapse_cl.data.tables.advice import AS_THEY_ARE, check_reading
from napari_synapse_cl.data.tables.columns import as_numbers, is_plain_number
from napari_synapse_cl.data.volumes import Volume
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.runs.events import Level
from napari_synapse_cl.system.words import VoxelSize, counted, size

IN_VOXELS = TableMapping(AXES, "voxels")
"""How layers hold positions, once they are in voxels of the volume."""
NO_VOXEL_SIZE = (
    "the voxel size is not known, so voxels are taken as cubes: rotations are wrong where they are "
    "not, and no length can be given in nm; give it with --voxel_size, or in napari as the scale "
    "of the layer, with units"
)


@dataclass(frozen=True)
class Placed:
    """The synapses of one table in one volume."""

    table: pd.DataFrame
    """All rows, with columns z, y, x in voxels of the volume's finest level."""
    voxels: np.ndarray
    """``(M, 3)`` float64, positions in voxels of the volume; NaN where a row has none."""
    partners: Mapping[str, np.ndarray]
    """Likewise, of what the synapses connect, by name."""
    messages: tuple[tuple[str, Level], ...]
    """What to tell of it."""

    def inside(self, volume: Volume) -> np.ndarray:
        """Return ``(M,)`` bool, which positions lie inside the volume."""
        return are_inside(self.voxels, volume)


def place(table: PositionTable, name: str, volume: Volume, finest: VoxelSize | None) -> Placed:
    """Find the synapses of a table in a volume.

    Parameters
    ----------
    name
        How to call the table in messages.
    finest
        Voxel size of its finest level along z, y, x in nm, or None where it is not known.

    Raises
    ------
    InputError
        If none lies inside, or another reading of the table would fit far better.
    """
    in_finest = in_voxels(table.positions, table.reading, finest, name)
    voxels = _in_level(in_finest, volume)
    inside = are_inside(voxels, volume)
    messages: list[tuple[str, Level]] = []
    doubt = check_reading(
        voxels,
        volume.shape,
        table.reading,
        finest,
        int(inside.sum()),
        name,
        offset=volume.offset,
        factor=volume.factor,
    )
    n_given = len(voxels) - table.n_missing
    told = f"{inside.sum():,} of {n_given:,} positions in {name} lie inside {volume.name}"
    if doubt and not (table.reading.is_explicit and inside.any()):
        raise InputError(f"{told}, read as {table.reading}; {doubt}")
    if not inside.any():
        raise InputError(
            f"all {n_given:,} positions in {name} lie outside {volume.name} of "
            f"{size(volume.shape)} voxels, read as {table.reading}: they span "
            f"{_spans(voxels)} in its voxels; see --position_columns, --position_unit and "
            "--position_voxel_size"
        )
    messages.append((f"{told}; read as {table.reading}", "detail"))
    if doubt:
        messages.append((doubt, "warning"))
    n_outside = n_given - int(inside.sum())
    if n_outside:
        messages.append(
            (
                f"{n_outside:,} of {n_given:,} positions lie outside {volume.name} and are left "
                "out; they get no features",
                "warning",
            )
        )
    if table.n_missing:
        verb = "has" if table.n_missing == 1 else "have"
        messages.append(
            (
                f"{counted(table.n_missing, 'row')} of {name} {verb} no position, and are left out "
                "with no features",
                "warning",
            )
        )
    partners = {
        partner: _in_level(in_voxels(places, table.reading, finest, name), volume)
        for partner, places in table.partners.items()
    }
    return Placed(with_positions(table, in_finest), voxels, partners, tuple(messages))


def place_points(table: pd.DataFrame, volume: Volume, voxel_size: VoxelSize | None) -> Placed:
    """Find the points of a layer in a volume.

    Parameters
    ----------
    table
        With columns z, y, x in voxels of the volume.
    voxel_size
        Its voxel size along z, y, x in nm, or None where it is not known.

    Raises
    ------
    InputError
        If none lies inside.
    """
    name = "the points layer"
    found = interpret(table, name, IN_VOXELS)
    voxels = found.positions
    n_inside = int(are_inside(voxels, volume).sum())
    doubt = check_reading(
        voxels, volume.shape, AS_THEY_ARE, voxel_size, n_inside, name, of_layer=True
    )
    if not n_inside:
        raise InputError(
            f"all {len(table)} positions in {name} lie outside the volume of {size(volume.shape)} "
            f"voxels: they span {_spans(voxels)}. Positions are needed in voxels, in the order "
            "z, y, x" + (f"; {doubt}" if doubt else "")
        )
    told = f"many positions lie outside the volume: {doubt}"
    return Placed(table, voxels, found.partners, ((told, "warning"),) if doubt else ())


def with_positions(table: PositionTable, voxels: np.ndarray) -> pd.DataFrame:
    """Return a table with columns z, y, x in voxels; others of these names get another one."""
    found = table.table
    given = {axis: found[axis] for axis in AXES if axis in found.columns}
    numbers = {axis: as_numbers(values) for axis, values in given.items()}
    same = len(given) == len(AXES) and all(
        np.array_equal(values, voxels[:, i], equal_nan=True)
        for i, values in enumerate(numbers.values())
    )
    if same:
        others = [axis for axis in AXES if not is_plain_number(given[axis])]
        return found.assign(**{axis: numbers[axis] for axis in others})
    renamed = found.rename(columns={axis: f"{axis}_as_read" for axis in given})
    return pd.concat(
        [pd.DataFrame(voxels, columns=list(AXES), index=renamed.index), renamed], axis=1
    )


def are_inside(voxels: np.ndarray, volume: Volume) -> np.ndarray:
    """Return ``(M,)`` bool, which of ``(M, 3)`` positions in voxels lie inside a volume."""
    nearest = nearest_voxel(voxels)
    # Comparisons with NaN are false.
    return np.asarray(((nearest >= 0) & (nearest < np.array(volume.shape))).all(axis=1))


def _in_level(voxels: np.ndarray, volume: Volume) -> np.ndarray:
    """Return positions in voxels of the finest level in those of the volume."""
    return (voxels + 0.5) / np.array(volume.factor) - 0.5 - np.array(volume.offset)


def _spans(voxels: np.ndarray) -> str:
    low, high = np.nanmin(voxels, axis=0), np.nanmax(voxels, axis=0)
    return ", ".join(f"{axis} {a:.0f}–{b:.0f}" for axis, a, b in zip(AXES, low, high, strict=True))


def centred(part: Part, placed: Placed, config: Config, voxel_size: VoxelSize | None) -> np.ndarray:
    """Return where crops are centred, ``(M, 3)`` in voxels of the volume.

    Parameters
    ----------
    config
        How far to move, and what crops are.
    voxel_size
        Voxel size of the crops along z, y, x in nm, or None where it is not known.

    Raises
    ------
    InputError
        If the presynaptic sides are not known.
    """
    weight, voxels, partners = config.presynaptic_shift, placed.voxels, placed.partners
    if weight == 0:
        return voxels
    if "presynapse" in partners:
        sides = partners["presynapse"]
    elif all(name in partners for name in SIDES):
        sides = _of_sides(part, placed, config, voxel_size)
    else:
        raise InputError(
            "presynaptic_shift needs the position of each presynaptic side, in columns such as "
            "pre_z, pre_y, pre_x, or of both sides with labels that tell vesicles"
        )
    moved = voxels + weight * (sides - voxels)
    # Where a side is not known the crop stays on the synapse.
    return np.where(are_inside(moved, part.volume)[:, None], moved, voxels)


def _of_sides(
    part: Part, placed: Placed, config: Config, voxel_size: VoxelSize | None
) -> np.ndarray:
    """Return of two sides the one whose cell holds more of the vesicles."""
    recipe = Recipe.parse("presynapse", part.roles, config.keep_nearest, 0.0)
    if part.labels is None or part.segmentation is None:
        raise InputError(
            "to tell which side of a synapse is presynaptic, labels with vesicles and a "
            "segmentation are needed"
        )
    z, y, x = part.reach(config.crop_size, voxel_size)
    found, partners = np.full_like(placed.voxels, np.nan), placed.partners
    for row in np.flatnonzero(placed.inside(part.volume)):
        centre = nearest_voxel(placed.voxels[row]).astype(int).tolist()
        side = presynaptic_side(
            part.labels.cut(centre, (z, y, x)),
            part.segmentation.cut(centre, (z, y, x)),
            recipe,
            (z // 2, y // 2, x // 2),
            {name: part.segmentation.at(partners[name][row]) for name in SIDES},
            part.voxel_size or CUBES,
        )
        found[row] = partners[side][row]
    return found

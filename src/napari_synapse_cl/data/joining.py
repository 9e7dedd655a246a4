"""Join the synapses of several volumes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from napari_synapse_cl.config import Config
from napari_synapse_cl.data.arrays import nearest_voxel
from napari_synapse_cl.data.centring import centred
from napari_synapse_cl.data.late_pandas import pd
from napari_synapse_cl.data.parts import Part, VoxelSize
from napari_synapse_cl.data.placing import Placed
from napari_synapse_cl.data.synapses import Positions
from napari_synapse_cl.data.tables.typed import joined
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.events import Level
from napari_synapse_cl.words import counted

VOLUME_COLUMN = "volume"


@dataclass(frozen=True)
class Joined:
    """Synapses of all volumes.

    Attributes
    ----------
    table
        M rows, those of one volume after the other; of several volumes with a column that names it.
    positions
        Those that lie inside.
    messages
        What to tell of them.
    """

    table: pd.DataFrame
    positions: Positions
    messages: tuple[tuple[str, Level], ...]


def join(
    parts: Sequence[Part],
    placed: Sequence[Placed],
    config: Config,
    voxel_size: VoxelSize | None,
) -> Joined:
    """Join the synapses of all volumes, centred as the settings say.

    Parameters
    ----------
    parts, placed
        The volumes and the synapses of each.
    config
        Size of the crops, where they are centred, and whether they may reach outside.
    voxel_size
        Voxel size of the crops along z, y, x in nm, or None where it is not known.

    Raises
    ------
    InputError
        If no synapse is left.
    """
    messages = [message for one in placed for message in one.messages]
    voxels, rows, volumes, n_outside, n_beyond = [], [], [], 0, 0
    partners: dict[str, list[np.ndarray]] = {name: [] for one in placed for name in one.partners}
    first_row = 0
    for number, (part, one) in enumerate(zip(parts, placed, strict=True)):
        inside = one.inside(part.volume)
        n_outside += int((np.isfinite(one.voxels).all(axis=1) & ~inside).sum())
        places = centred(part, one, config, voxel_size)
        if config.borders == "exclude":
            reaching = ~part.holds_crops(places, config.crop_size, voxel_size)
            n_beyond += int((reaching & inside).sum())
            inside &= ~reaching
        chosen = np.flatnonzero(inside)
        voxels.append(nearest_voxel(places[chosen]).astype(np.int64))
        rows.append(chosen + first_row)
        volumes.append(np.full(len(chosen), number))
        for name, arrays in partners.items():
            arrays.append(one.partners.get(name, np.full_like(one.voxels, np.nan))[chosen])
        first_row += len(one.table)
    if n_beyond:
        messages.append(
            (f"{counted(n_beyond, 'synapse')} left out, whose crops reach outside", "warning")
        )
    positions = Positions(
        np.concatenate(voxels),
        np.concatenate(rows),
        n_outside,
        np.concatenate(volumes) if len(parts) > 1 else None,
        {name: np.concatenate(arrays) for name, arrays in partners.items()},
    )
    if not len(positions.voxels):
        raise InputError(
            "every crop reaches outside its volume, so none is left: choose other borders than "
            "exclude, or a smaller crop_size"
        )
    n_double = int((~positions.is_first).sum())
    if n_double:
        verb = "lies" if n_double == 1 else "lie"
        messages.append(
            (
                f"{counted(n_double, 'synapse')} {verb} in the same voxel as another: each voxel "
                "is trained on once, and all get features",
                "warning",
            )
        )
    return Joined(_joined_table(parts, placed), positions, tuple(messages))


def _joined_table(parts: Sequence[Part], placed: Sequence[Placed]) -> pd.DataFrame:
    if len(parts) == 1:
        return placed[0].table
    tables = []
    for part, one in zip(parts, placed, strict=True):
        table = one.table
        name = VOLUME_COLUMN if VOLUME_COLUMN not in table.columns else f"{VOLUME_COLUMN}_name"
        tables.append(table.assign(**{name: part.name}))
    return joined(tables)

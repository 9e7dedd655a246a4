"""Positives beyond augmentation: synapses of one cell or place, and which others are no negatives.

Two crops of one cell, or of one neighbourhood, look different and are alike in what a network
should tell: which cell that is. So the second view of a synapse may be one of another synapse. And
what belongs to one cell is not pushed apart.

References
----------
Dorkenwald, Li, Januszewski and others: Multi-Layered Maps of Neuropil with Segmentation-Guided
Contrastive Learning, 2023 (positives are views of one cell within a distance).
https://doi.org/10.1038/s41592-023-02059-8
"""

from functools import lru_cache
from typing import Self

import numpy as np

from napari_synapse_cl.augmentations.base import stream
from napari_synapse_cl.config import Config
from napari_synapse_cl.data.dataset import SEGMENTATION, Dataset
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.system.words import counted


class Partners:
    """Draws, for the second view of each synapse, the synapse that it is of.

    What is drawn depends on the seed, the epoch and the synapse alone.

    Parameters
    ----------
    places
        ``(N, 3)`` positions of all synapses in nm; those of other volumes are far away.
    rows
        ``(N,)``, row of each in its table, which the draws are keyed by.
    training
        Indices of those that may be partners.
    config
        Within which distance, and for which share of the pairs.
    cells
        ``(N,)`` int64, which cell each is of, -1 where that is not known; None for not at all.
    """

    def __init__(
        self,
        places: np.ndarray,
        rows: np.ndarray,
        training: np.ndarray,
        config: Config,
        cells: np.ndarray | None = None,
    ) -> None:
        self._places = np.asarray(places, dtype=np.float64)
        self._rows = rows
        self._training = training
        self._distance = config.positive_distance
        self._share = config.positive_share
        self._seed = config.seed
        self._cells = cells
        self._near = lru_cache(maxsize=None)(self._look_for)
        self._tree = None
        self._by_cell: dict[int, np.ndarray] = {}
        if self._distance:
            # It takes longer to import than a job without it should wait to begin.
            from scipy.spatial import cKDTree

            self._tree = cKDTree(self._places[training])
        elif cells is not None:
            order = training[np.argsort(cells[training], kind="stable")]
            found, first = np.unique(cells[order], return_index=True)
            self._by_cell = dict(zip(found.tolist(), np.split(order, first[1:]), strict=True))

    @classmethod
    def of_dataset(
        cls, dataset: Dataset, training: np.ndarray, config: Config, cells: np.ndarray | None
    ) -> Self | None:
        """Return those of a dataset; None where every synapse is its own, as the settings say."""
        if not config.positive_share or (cells is None and not config.positive_distance):
            return None
        places = dataset.places * np.array(dataset.voxel_size)
        return cls(places, dataset.positions.rows, training, config, cells)

    def told(self) -> str:
        """Say how many synapses have partners."""
        n = len(self._training)
        alone = sum(not len(self._near(int(one))) for one in self._training)
        where = f" within {self._distance:g} nm" if self._distance else ""
        cell = " of the same cell" if self._cells is not None else ""
        return (
            f"{n - alone:,} of {n:,} training synapses have others{cell}{where}, which the second "
            f"view is of in {self._share:.0%} of their pairs"
        )

    def of(self, synapses: np.ndarray, epoch: int) -> np.ndarray:
        """Return ``(n,)``, the synapse that the second view of each is of; its own for most.

        Parameters
        ----------
        synapses
            ``(n,)`` indices.
        epoch
            Counted from 1.
        """
        return np.array([self._of(int(one), epoch) for one in synapses], dtype=np.int64)

    def _of(self, synapse: int, epoch: int) -> int:
        numbers = stream(self._seed, epoch, int(self._rows[synapse]), 2, "partner")
        wanted, which = numbers(2)
        near = self._near(synapse) if wanted < self._share else ()
        return int(near[int(which * len(near))]) if len(near) else synapse

    def _look_for(self, synapse: int) -> np.ndarray:
        """Return the other training synapses of the same cell, within the distance."""
        if self._tree is not None:
            within = self._tree.query_ball_point(self._places[synapse], self._distance)
            near = np.sort(self._training[np.asarray(within, dtype=np.int64)])
            if self._cells is not None:
                same = self._cells[near] == self._cells[synapse]
                near = near[same & (self._cells[synapse] >= 0)]
        else:
            assert self._cells is not None
            cell = int(self._cells[synapse])
            near = (
                self._by_cell[cell] if cell in self._by_cell and cell >= 0 else self._training[:0]
            )
        return near[near != synapse]


def cells_of(dataset: Dataset, config: Config) -> tuple[np.ndarray | None, str]:
    """Return which cell the synapses of a dataset are of, and what to tell of it.

    Parameters
    ----------
    dataset
        N synapses.

    Returns
    -------
    cells : numpy.ndarray or None
        ``(N,)`` int64, alike for one cell of one volume, -1 where the column is blank or the
        segmentation 0; None where the settings name no cells.
    told : str
        How many cells there are.

    Raises
    ------
    InputError
        If there is neither such a column nor a segmentation that was asked for, no two synapses
        are of one cell, or all are, which leaves an objective with negatives none.
    """
    name = config.cell_column
    if name is None:
        return None, ""
    rows, volumes = dataset.positions.rows, dataset.positions.volumes
    where = np.zeros(len(rows), np.int64) if volumes is None else volumes
    if name in dataset.table.columns:
        column = dataset.table[name].iloc[rows]
        keys = [
            None if missing else str(v) for v, missing in zip(column, column.isna(), strict=True)
        ]
        source = f"the column {name}"
    elif name == SEGMENTATION:
        keys = [str(cell) if cell else None for cell in dataset.cells()]
        source = "the segmentation"
    else:
        raise InputError(
            f"the synapse table has no column {name} that names cells; it has "
            f"{', '.join(str(column) for column in dataset.table.columns)}"
        )
    numbers: dict[tuple[int, str], int] = {}
    cells = np.array(
        [
            -1 if key is None else numbers.setdefault((int(at), key), len(numbers))
            for key, at in zip(keys, where, strict=True)
        ],
        dtype=np.int64,
    )
    n_known = int((cells >= 0).sum())
    if len(numbers) == n_known:
        raise InputError(
            f"no two synapses are of one cell by {source}, so it tells of no positives"
        )
    if len(numbers) == 1 and n_known == len(cells) and config.objective != "byol":
        raise InputError(f"by {source} all synapses are of one cell, so there are no negatives")
    text = f"by {source} {counted(n_known, 'synapse')} are of {counted(len(numbers), 'cell')}"
    unknown = len(cells) - n_known
    return cells, text + (f", and of {unknown:,} the cell is not known" if unknown else "")

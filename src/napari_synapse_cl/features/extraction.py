"""Features of synapses: what layers of a network put out for the crop around each.

They are kept on the disk while they come: others can look, and memory stays free.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Generic, Protocol, Self, TypeVar

import numpy as np
import torch
from torch import Tensor

from napari_synapse_cl.augmentations.resampling import centre_crop
from napari_synapse_cl.data.crops.sources import CropSource
from napari_synapse_cl.errors import JobError, reason
from napari_synapse_cl.features.descriptors import describe
from napari_synapse_cl.system.distributed import ALONE, Ranks
from napari_synapse_cl.system.files import create_array
from napari_synapse_cl.system.memory import is_shortage
from napari_synapse_cl.system.words import counted, storage

BATCH_VOXELS = 16 * 80**3
"""Voxels that go through the network at once: 16 crops of 80³."""

HAND = "hand"
"""What descriptors are known by where layers are by their indices."""
Source = int | str
"""Index of a layer, or `HAND`."""

Result = TypeVar("Result")


@dataclass(frozen=True)
class Batch(Generic[Result]):
    """What was made of some crops."""

    n_done: int
    """How many crops were looked at so far."""
    synapses: np.ndarray
    """``(B,)``, which of them in this batch could be used."""
    result: Result | None
    """What was made of these, None if there are none."""


class Reader(Protocol):
    """Makes features of crops: a :class:`~.readout.Readout`, `Descriptors`, or several of these."""

    crop_size: tuple[int, int, int]
    """Size of the crops that it takes, along z, y, x."""

    def read(self, crops: Tensor) -> Mapping[Any, np.ndarray]:
        """Return by their source ``(B, …)`` float32 of ``(B, 1, D, H, W)`` float32 in [0, 1]."""


class Descriptors:
    """Reads descriptors that no network is needed for, as many crops at a time as PyTorch would.

    Parameters
    ----------
    crop_size
        Size of the crops along z, y, x.
    voxel_size
        Along z, y, x in nm, None where it is not known.
    """

    def __init__(self, crop_size: tuple[int, int, int], voxel_size: Sequence[float] | None) -> None:
        self.crop_size = crop_size
        self._voxel_size = voxel_size

    def read(self, crops: Tensor) -> Mapping[Source, np.ndarray]:
        """Return ``(B, K)`` float32 under `HAND`, as :func:`~.descriptors.describe` does."""
        return {HAND: describe(crops[:, 0].numpy(), self._voxel_size, torch.get_num_threads())}


class Several:
    """Several readers of the same crops, one after the other.

    Parameters
    ----------
    readers
        At least one.
    """

    def __init__(self, readers: Sequence[Reader]) -> None:
        self.crop_size = readers[0].crop_size
        self._readers = readers

    def read(self, crops: Tensor) -> Mapping[Source, np.ndarray]:
        """Return what all of them read."""
        return {source: value for r in self._readers for source, value in r.read(crops).items()}


def extract_features(
    reader: Reader, crops: CropSource, ranks: Ranks = ALONE
) -> Iterator[Batch[Mapping[Source, np.ndarray]]]:
    """Yield what a reader makes of all crops, batch by batch, in their order.

    Of several processes each reads a share of every batch, and all get all of it.

    Parameters
    ----------
    reader
        Reads layers of a network, descriptors or both.
    crops
        Crops at least as large as those of the reader, which sees their centre.
    ranks
        The processes that extract together.

    Yields
    ------
    Batch
        Its result by its source, ``(B, …)`` float32.

    Raises
    ------
    JobError
        If memory does not suffice for a single crop.
    """

    def read(synapses: np.ndarray, batch: Tensor) -> Mapping[Source, np.ndarray]:
        return reader.read(centre_crop(batch, reader.crop_size))

    for batch in in_batches(crops, reader.crop_size, read, ranks):
        yield batch if ranks.size == 1 else _joined(batch, ranks)


def in_batches(
    crops: CropSource,
    crop_size: tuple[int, int, int],
    work: Callable[[np.ndarray, Tensor], Result],
    ranks: Ranks = ALONE,
    of: np.ndarray | None = None,
) -> Iterator[Batch[Result]]:
    """Yield what some work makes of crops that can be used, batch by batch, in their order.

    When memory runs out, a process that is alone goes on with smaller batches.

    Parameters
    ----------
    crop_size
        What goes through the network of each, along z, y, x.
    work
        Takes the indices of some crops, and these as ``(B, 1, D, H, W)`` float32 in [0, 1].
    ranks
        The processes that share each batch.
    of
        ``(n,)``, the indices of the crops; None for all.

    Raises
    ------
    JobError
        If memory does not suffice for a single crop.
    """
    first, size = 0, ranks.size * max(1, BATCH_VOXELS // prod(crop_size))
    of = np.arange(len(crops)) if of is None else of
    while first < len(of):
        synapses = of[first : first + size]
        stop = first + len(synapses)
        try:
            read, usable = crops.read_usable(ranks.share_of(synapses).tolist())
            result = work(usable, torch.from_numpy(read)) if len(usable) else None
            yield Batch(stop, usable, result)
        except (RuntimeError, MemoryError) as error:
            if not is_shortage(error):
                raise
            if size == 1 or ranks.size > 1:
                raise JobError(
                    f"memory ran out while features of {counted(len(synapses), 'crop')} were "
                    "extracted; end other programs, or choose the device cpu, fewer layers or a "
                    "smaller crop_size"
                ) from error
            size = max(1, len(synapses) // 2)
        else:
            first = stop


def _joined(
    batch: Batch[Mapping[Source, np.ndarray]], ranks: Ranks
) -> Batch[Mapping[Source, np.ndarray]]:
    """Return what all processes have read of a batch."""
    found = ranks.everyones((batch.synapses, batch.result))
    results = [result for _, result in found if result is not None]
    layers = results[0] if results else {}
    joined = {source: np.concatenate([result[source] for result in results]) for source in layers}
    return Batch(batch.n_done, np.concatenate([some for some, _ in found]), joined or None)


class GrowingArray:
    """A memory-mapped ``.npy`` file whose rows are written one batch after another.

    Used as a context manager; the file is removed at the end unless it was kept.

    Parameters
    ----------
    shape
        ``(M, …)``, of float32.
    blank
        Whether rows are NaN from the start; else those not written have to be blanked.

    Raises
    ------
    JobError
        If the disk has no room for it.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], *, blank: bool) -> None:
        self.path = path
        try:
            self.values: np.ndarray = create_array(path, shape, np.dtype(np.float32))
        except OSError as error:
            path.unlink(missing_ok=True)
            n_bytes = 4 * prod(float(n) for n in shape)
            raise JobError(
                f"cannot write the {storage(n_bytes)} of features to {path.parent}: {reason(error)}"
            ) from error
        if blank:
            self.values[:] = np.nan

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # Windows removes no file that is mapped.
        self.values = np.empty(0, np.float32)
        self.path.unlink(missing_ok=True)

    def keep_as(self, target: Path) -> None:
        """Give the file its final name, in one step."""
        assert isinstance(self.values, np.memmap)
        self.values.flush()
        self.values = np.empty(0, np.float32)
        self.path.replace(target)

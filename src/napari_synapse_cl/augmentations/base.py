"""What a transform is: what was drawn for one view, and how it is applied to a batch.

PyTorch is imported by what computes, when it is first called: the window asks transforms how much
tissue they need, and does not import it.
"""

import struct
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from hashlib import shake_128
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from napari_synapse_cl.config import AugmentationConfig

if TYPE_CHECKING:
    from torch import Tensor

Random = Callable[[int], list[float]]
"""Returns the first n numbers, in [0, 1), of a stream that no other transform or view has."""


class Transform(ABC):
    """One random change of a view.

    A subclass is a frozen dataclass whose fields are what was drawn for one view, as plain values:
    so it can be compared, written down and applied again. No two transforms have a field of the
    same name.
    """

    name: ClassVar[str]
    """Tells its random numbers from those of others. With another name, old seeds draw others."""
    settings: ClassVar[tuple[str, ...]]
    """What it reads of the configuration. It is on where the first of them is not 0."""
    off: ClassVar[str] = ""
    """What is said of a view where it is off; empty for nothing."""
    instead_of: ClassVar[str] = ""
    """Name of a transform that is off, and not spoken of, where this one is on."""

    @classmethod
    def is_on(cls, config: AugmentationConfig) -> bool:
        """Return whether it changes views at all."""
        return bool(getattr(config, cls.settings[0]))

    @classmethod
    @abstractmethod
    def draw(cls, config: AugmentationConfig, random: Random) -> Self:
        """Draw it for one view; called where it is on."""

    @abstractmethod
    def describe(self) -> str:
        """Say in words what was drawn."""

    @classmethod
    def reach(cls, config: AugmentationConfig, extent: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return how far what views show may lie from their centre, ``(3,)``; called where on.

        Parameters
        ----------
        extent
            ``(3,)``, how far a view reaches from its centre along z, y, x.
        """
        return extent


class SpatialTransform(Transform):
    """A transform that moves tissue: all of them become one affine resampling.

    It is made in physical space, in the unit of the voxel size, about the centre of the view.
    """

    @classmethod
    @abstractmethod
    def matrices(cls, drawn: Sequence[Self]) -> NDArray[np.float64]:
        """Return what maps offsets in B views to offsets in what they are made from.

        Returns
        -------
        numpy.ndarray
            ``(B, 3, 3)`` float64, on (z, y, x) vectors.
        """

    @classmethod
    def shifts(cls, drawn: Sequence[Self]) -> NDArray[np.float64]:
        """Return what is added to these offsets, ``(B, 3)`` float64 along z, y, x."""
        return np.zeros((len(drawn), 3))


class IntensityTransform(Transform):
    """A transform that changes intensities; it is applied to views that are resampled already."""

    @classmethod
    @abstractmethod
    def apply(cls, views: "Tensor", drawn: Sequence[Self]) -> "Tensor":
        """Return B views changed by what was drawn for each.

        Parameters
        ----------
        views
            ``(B, 1, D, H, W)`` float32; may be overwritten.
        drawn
            B records.

        Returns
        -------
        Tensor
            Like `views`. Intensities beyond [0, 1] are cut off after the last transform.
        """


class SectionTransform(Transform):
    """A transform of sections, the slices along z of the volume, each for itself.

    It is applied to crops before they are resampled, so that in rotated views sections lie as they
    do in the volume.
    """

    @classmethod
    @abstractmethod
    def apply(cls, crops: "Tensor", drawn: Sequence[Self], voxel_size: Sequence[float]) -> "Tensor":
        """Return B crops changed by what was drawn for each.

        Parameters
        ----------
        crops
            ``(B, 1, D, H, W)`` float32; not overwritten, since both views are made from them.
        drawn
            B records.
        voxel_size
            Voxel size along z, y, x.

        Returns
        -------
        Tensor
            A new one like `crops`.
        """


def per_view(views: "Tensor", values: Sequence[float]) -> "Tensor":
    """Return B numbers as ``(B, 1, 1, 1, 1)``, with the type and on the device of the views."""
    return views.new_tensor(values).view(-1, 1, 1, 1, 1)


def reflected(places: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """Return which of `n` voxels is seen at each place, reflected at the outer faces."""
    index = places % (2 * n)
    return np.where(index < n, index, 2 * n - 1 - index)


def decimal(value: float, digits: int) -> str:
    """Write a number with a true minus sign, and none before a zero."""
    return f"{value:z.{digits}f}".replace("-", "−")


def balanced_factor(reach: float, random: float) -> float:
    """Return a factor from 1 / (1 + reach) to 1 + reach, whose logarithm is even.

    Parameters
    ----------
    reach
        How much larger than 1 it may be.
    random
        A number drawn evenly from [0, 1).
    """
    return float((1 + reach) ** (2 * random - 1))


def stream(seed: int, epoch: int, synapse: int, view: int, name: str) -> Random:
    """Return a stream of random numbers that depends on these alone."""
    return partial(numbers_of, f"{seed} {epoch} {synapse} {view} {name}")


def numbers_of(key: str, n: int) -> list[float]:
    """Return the first `n` numbers, in [0, 1), of the stream that a key names."""
    # A sixth of the time that numpy's SeedSequence takes, and as many numbers as are asked for.
    words = struct.unpack(f"<{n}Q", shake_128(key.encode()).digest(8 * n))
    return [(word >> 11) * 2.0**-53 for word in words]


def section_numbers(seeds: Sequence[int], depth: int, n: int) -> NDArray[np.float64]:
    """Return ``(B, depth, n)`` float64 in [0, 1) for sections of crops, from streams of their own.

    They are counted from the centre: a section has the same whatever the context around it.

    Parameters
    ----------
    seeds
        One for each crop.
    depth
        Sections of a crop.
    n
        Numbers for each of them.
    """
    outwards = sorted(range(depth), key=lambda k: (abs(k - depth // 2), k))
    numbers = np.empty((len(seeds), depth, n))
    for one, seed in zip(numbers, seeds, strict=True):
        one[outwards] = np.reshape(numbers_of(f"sections {seed}", depth * n), (depth, n))
    return numbers

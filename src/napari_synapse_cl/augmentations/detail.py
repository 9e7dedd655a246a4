"""Gaussian blur and cutouts: detail is lost, a little of it everywhere or all of it somewhere."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from napari_synapse_cl.augmentations.base import IntensityTransform, Random, reflected
from napari_synapse_cl.config import AugmentationConfig

if TYPE_CHECKING:
    from torch import Tensor

TRUNCATE = 4.0
"""Half-width of the kernel in standard deviations, as in ``scipy.ndimage``."""


@dataclass(frozen=True)
class Blur(IntensityTransform):
    """A Gaussian blur, reflected at the faces.

    The kernel is sampled and cut off as in ``scipy.ndimage.gaussian_filter``.
    """

    blur_sigma: float
    """Standard deviation in voxels."""

    name: ClassVar[str] = "blur"
    settings: ClassVar[tuple[str, ...]] = ("gaussian_blur_sigma",)
    off: ClassVar[str] = "blur σ 0.00 voxels"

    @classmethod
    def draw(cls, config: AugmentationConfig, random: Random) -> Self:
        """Draw the standard deviation evenly."""
        (one,) = random(1)
        return cls(config.gaussian_blur_sigma * one)

    def describe(self) -> str:
        """Say the standard deviation."""
        return f"blur σ {self.blur_sigma:.2f} voxels"

    @classmethod
    def apply(cls, views: "Tensor", drawn: Sequence[Self]) -> "Tensor":
        """Return blurred views, by banded matrix products."""
        sigma = np.array([one.blur_sigma for one in drawn])
        along = {n: views.new_tensor(blur_matrices(n, sigma)) for n in set(views.shape[2:])}
        batch, _, depth, height, width = shape = views.shape
        views = along[depth] @ views.reshape(batch, depth, -1)
        views = views.view(batch, -1, width) @ along[width].mT
        views = along[height][:, None] @ views.view(batch, depth, height, width)
        return views.view(shape)


def blur_matrices(n: int, sigma: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ``(B, n, n)`` float64 that blur a line of voxels, reflected at its ends.

    Parameters
    ----------
    n
        Voxels of the line.
    sigma
        ``(B,)``, standard deviations in voxels.
    """
    radii = np.floor(TRUNCATE * sigma + 0.5).astype(int)
    offsets = np.arange(-radii.max(), radii.max() + 1)
    # A sigma of 0 has radius 0, so its kernel is the central 1 whatever it is divided by.
    weights = np.exp(-0.5 * (offsets / sigma.clip(min=1e-6)[:, None]) ** 2)
    weights[np.abs(offsets) > radii[:, None]] = 0
    weights /= weights.sum(axis=1, keepdims=True)
    target = np.arange(n)[:, None]
    source = reflected(target + offsets, n)
    matrices = np.zeros((len(sigma), n, n))
    # Reflected at the faces, a voxel may be seen by several elements of a kernel.
    np.add.at(matrices, (np.arange(len(sigma))[:, None, None], target, source), weights[:, None])
    return matrices


PERIPHERY = "periphery"


@dataclass(frozen=True)
class Cutout(IntensityTransform):
    """A part of the view becomes as grey as the view is on average; the centre is always left."""

    cutout_kind: str
    """"cuboid" anywhere on one side of the centre, "corner", "periphery" for all but a box around
    the centre, or "" for none."""
    cutout_box: tuple[float, ...]
    """Where the box begins along z, y, x, then where it ends, as shares of the view."""

    name: ClassVar[str] = "cutout"
    settings: ClassVar[tuple[str, ...]] = ("cutout_prob", "cutout_size", "cutout_kinds")

    @classmethod
    def draw(cls, config: AugmentationConfig, random: Random) -> Self:
        """Draw whether, what, how large and where."""
        occurs, which, side, axis, *rest = random(10)
        if occurs >= config.cutout_prob:
            return cls("", (0.0,) * 6)
        kind = config.cutout_kinds[int(which * len(config.cutout_kinds))]
        shares = [config.cutout_size * (1 + one) / 2 for one in rest[:3]]
        if kind == PERIPHERY:
            # What is left, which holds the centre wherever it lies.
            shares = [1 - one for one in shares]
        begins = [place * (1 - share) for place, share in zip(rest[3:], shares, strict=True)]
        if kind == "corner":
            begins = [(int(8 * side) >> i & 1) * (1 - share) for i, share in enumerate(shares)]
        elif kind == "cuboid":
            # Beside the centre along one axis, and anywhere along the others.
            i = int(3 * axis)
            begin = rest[3 + i] * (0.5 - shares[i])
            begins[i] = begin if side < 0.5 else 1 - begin - shares[i]
        ends = (begin + share for begin, share in zip(begins, shares, strict=True))
        return cls(kind, (*begins, *ends))

    def describe(self) -> str:
        """Say what is cut out, and how large it is."""
        if not self.cutout_kind:
            return "nothing cut out"
        sides = zip(self.cutout_box[:3], self.cutout_box[3:], strict=True)
        size = " × ".join(f"{100 * (end - begin):.0f}" for begin, end in sides)
        what = "all but" if self.cutout_kind == PERIPHERY else f"a {self.cutout_kind} of"
        return f"{what} {size} % of the sides cut out"

    @classmethod
    def apply(cls, views: "Tensor", drawn: Sequence[Self]) -> "Tensor":
        """Return views with what was cut out."""
        means = views.mean(dim=(2, 3, 4))
        for view, mean, one in zip(views, means, drawn, strict=True):
            if not one.cutout_kind:
                continue
            bounds = [
                round(share * n)
                for share, n in zip(one.cutout_box, 2 * tuple(view.shape[1:]), strict=True)
            ]
            z, y, x = (slice(*ends) for ends in zip(bounds[:3], bounds[3:], strict=True))
            if one.cutout_kind == PERIPHERY:
                left = view[:, z, y, x].clone()
                view[:] = mean
                view[:, z, y, x] = left
            else:
                view[:, z, y, x] = mean
        return views

"""How a network shrinks a crop, without PyTorch: the window asks before anything is trained."""

from collections.abc import Sequence
from math import prod

from napari_synapse_cl.words import size

Triple = tuple[int, int, int]


def downsampling_factors(kind: str, n_stages: int) -> tuple[Triple, ...]:
    """Return the pooling after each stage: 2×2×2, or 1×2×2 until the last for "anisotropic"."""
    if kind == "isotropic":
        return ((2, 2, 2),) * n_stages
    return ((1, 2, 2),) * (n_stages - 1) + ((2, 2, 2),)


def total_downsampling(factors: Sequence[Triple]) -> Triple:
    """Return the product of all pooling along z, y, x."""
    z, y, x = (prod(along_axis) for along_axis in zip(*factors, strict=True))
    return (z, y, x)


def nearest_crop_size(crop_size: Sequence[int], factors: Triple) -> Triple:
    """Return the size nearest to `crop_size` whose sides are multiples of the downsampling."""
    z, y, x = (max(1, round(n / f)) * f for n, f in zip(crop_size, factors, strict=True))
    return (z, y, x)


def crop_size_problem(crop_size: Sequence[int], factors: Triple) -> str | None:
    """Say why a network cannot take crops of this size, with a size that would fit; else None.

    Parameters
    ----------
    crop_size
        Size along z, y, x in voxels.
    factors
        Total downsampling along z, y, x.
    """
    if not any(n % f for n, f in zip(crop_size, factors, strict=True)):
        return None
    return (
        f"crops of {size(crop_size)} voxels cannot be halved as often as this network does: each "
        f"side must be a multiple of {size(factors)}, as in "
        f"{size(nearest_crop_size(crop_size, factors))}"
    )

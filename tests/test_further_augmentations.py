"""Augmentations that are off by default, against SciPy in float64 on the parameters drawn."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import scipy.ndimage as ndi
import torch
from torch import Tensor

from napari_synapse_cl.augmentations.composition import affine_matrices, apply, describe, draw
from napari_synapse_cl.augmentations.context import (
    check_voxel_size,
    context_settings,
    context_shape,
)
from napari_synapse_cl.augmentations.shift import Shift
from napari_synapse_cl.augmentations.transforms import INTENSITY, SPATIAL
from napari_synapse_cl.config import AugmentationConfig
from napari_synapse_cl.errors import InputError

SHAPE = (12, 16, 14)
OFF: dict[str, Any] = {one.settings[0]: 0 for one in (*SPATIAL, *INTENSITY)}
VOXELS = pytest.mark.parametrize(
    "voxel_size", [(1, 1, 1), (10, 4, 4)], ids=["cubes", "thick sections"]
)


def alone(**settings: Any) -> AugmentationConfig:
    """Settings with which nothing else is on."""
    return AugmentationConfig(**{**OFF, **settings})


def drawn(config: AugmentationConfig, n: int = 4) -> list[Any]:
    """What is drawn for n views of the one transform that is on."""
    return [one for (one,) in draw(config, seed=1, epoch=1, synapses=range(n), view=1)]


def tissue(n: int = 4, shape: Sequence[int] = SHAPE) -> Tensor:
    """Smooth random crops in [0, 1]."""
    noise = np.random.default_rng(0).random((n, *shape))
    smooth = np.stack([ndi.gaussian_filter(crop, 1.5) for crop in noise])
    low, high = smooth.min(), smooth.max()
    return torch.from_numpy((smooth - low) / (high - low)).float()[:, None]


def reached(matrices: np.ndarray, shape: Sequence[int] = SHAPE) -> np.ndarray:
    """How far from the centre of the crop views see, in voxels."""
    corners = np.stack(np.meshgrid(*[[-(n - 1) / 2, (n - 1) / 2] for n in shape])).reshape(3, -1)
    return np.abs(matrices[:, :, :3] @ corners + matrices[:, :, 3:]).max(axis=(0, 2))


def scipy_view(crop: Tensor, matrix: np.ndarray, shift: np.ndarray | float = 0) -> np.ndarray:
    """A view of the central SHAPE of a crop, through a map of voxel offsets."""
    centre_in, centre_out = (np.array(crop.shape) - 1) / 2, (np.array(SHAPE) - 1) / 2
    offset = centre_in + shift - matrix @ centre_out
    exact = crop.double().numpy()
    return ndi.affine_transform(exact, matrix, offset, SHAPE, order=1, mode="reflect")


def test_what_is_off_by_default_is_not_drawn_and_not_spoken_of() -> None:
    assert len(draw(AugmentationConfig(), seed=1, epoch=1, synapses=[0], view=1)[0]) == 6
    assert describe(()).count(";") == 5


def test_lengths_need_a_voxel_size_where_they_are_used() -> None:
    check_voxel_size(AugmentationConfig(), None, "a.tif")
    check_voxel_size(alone(shift_range=20), (8, 8, 8), "a.tif")
    with pytest.raises(InputError, match=r"shift_range counts in nm.* of a\.tif is not known"):
        check_voxel_size(alone(shift_range=20), None, "a.tif")


@VOXELS
def test_a_shift_moves_the_centre_by_nm_and_finds_tissue_there(voxel_size: tuple) -> None:
    config = alone(shift_range=21)
    made, shape = drawn(config), context_shape(SHAPE, config, voxel_size)
    crops = tissue(shape=shape)
    views = apply(crops, [(one,) for one in made], SHAPE, voxel_size)
    for crop, view, one in zip(crops, views, made, strict=True):
        reference = scipy_view(crop[0], np.eye(3), np.array(one.shift) / voxel_size)
        np.testing.assert_allclose(view[0].numpy(), reference, atol=2e-5)
    many = affine_matrices([(one,) for one in drawn(config, 2000)], voxel_size)
    assert (reached(many) <= (np.array(shape) - 1) / 2).all()
    assert context_settings(config) == ["shift_range"]


def test_shifts_fill_their_ball_evenly() -> None:
    shifts = Shift.shifts(drawn(alone(shift_range=50), 4000))
    radii = np.linalg.norm(shifts, axis=1)
    assert radii.max() <= 50
    # Of a ball, half lies within 0.79 of the radius, and each coordinate has a variance of R²/5.
    assert np.median(radii) == pytest.approx(50 * 0.5 ** (1 / 3), rel=0.02)
    np.testing.assert_allclose(shifts.mean(axis=0), 0, atol=1.5)
    np.testing.assert_allclose(np.cov(shifts.T), np.eye(3) * 50**2 / 5, atol=25)


def test_a_shift_is_told_along_each_axis() -> None:
    text = "shifted 12 nm along z, −3 nm along y, 0 nm along x"
    assert Shift((12.3, -3.1, 0.2)).describe() == text

"""The compiled loop of the augmentations against PyTorch, which computes where there is none."""

import numpy as np
import pytest
import scipy.ndimage as ndi
import torch
from torch import Tensor

from napari_synapse_cl.augmentations import resampling
from napari_synapse_cl.augmentations.composition import Drawn, affine_matrices, apply, draw
from napari_synapse_cl.augmentations.resampling import centre_crop, resample
from napari_synapse_cl.augmentations.spatial import Flip, Rotation
from napari_synapse_cl.config import AugmentationConfig
from napari_synapse_cl.system.loops import Loop

SHAPE = (11, 16, 13)
CONTEXT = (21, 28, 23)


def crops_of(n: int, shape: tuple[int, int, int] = CONTEXT) -> Tensor:
    return torch.rand(n, 1, *shape, generator=torch.Generator().manual_seed(0))


def drawn(n: int, **ranges: float) -> list[Drawn]:
    return draw(AugmentationConfig(**ranges), seed=1, epoch=1, synapses=range(n), view=1)


def by_pytorch(
    monkeypatch: pytest.MonkeyPatch, crops: Tensor, matrices: np.ndarray, shape: tuple = SHAPE
) -> Tensor:
    with monkeypatch.context() as patch:
        patch.setattr(Loop, "__call__", lambda *_: False)
        return resample(crops, matrices, shape)


def test_the_loop_is_what_computes_here() -> None:
    apply(crops_of(1), drawn(1), SHAPE)
    assert resampling._resample._function is not None


@pytest.mark.parametrize("n", [1, 5])
@pytest.mark.parametrize("voxel_size", [(1, 1, 1), (40, 4, 4)], ids=["cubes", "thick sections"])
@pytest.mark.parametrize("rotation", [15, 180])
@pytest.mark.parametrize("shift", [0.0, -3.3], ids=["", "shifted"])
def test_views_are_those_of_pytorch_but_for_rounding(
    n: int, voxel_size: tuple, rotation: float, shift: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    matrices = affine_matrices(drawn(n, rotation_range=rotation), voxel_size)
    matrices[:, :, 3] = [shift, 0, -2 * shift]
    arguments = crops_of(n), matrices, SHAPE
    torch.testing.assert_close(
        resample(*arguments), by_pytorch(monkeypatch, *arguments), atol=5e-5, rtol=0
    )


@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (1, 2, 3), (5, 4, 7)], ids=["a voxel", "a slice", "smaller than the view"]
)
def test_what_lies_far_beyond_a_crop_is_reflected_as_in_scipy(shape: tuple) -> None:
    crops = crops_of(3, shape)
    matrices = affine_matrices(drawn(3, rotation_range=180))
    views = resample(crops, matrices, SHAPE)
    centre_in, centre_out = (np.array(shape) - 1) / 2, (np.array(SHAPE) - 1) / 2
    for crop, view, matrix in zip(crops, views, matrices[:, :, :3], strict=True):
        reference = ndi.affine_transform(
            crop[0].double().numpy(),
            matrix,
            offset=centre_in - matrix @ centre_out,
            output_shape=SHAPE,
            order=1,
            mode="reflect",
        )
        np.testing.assert_allclose(view[0].numpy(), reference, atol=2e-5)


def test_a_view_that_is_not_turned_is_its_crop_to_the_bit_beside_one_that_is() -> None:
    crops = crops_of(2)
    no_flip = Flip((False, False, False))
    made = [(Rotation((0.0, 0.0, 0.0)), no_flip), (Rotation((5.0, -8.0, 3.0)), no_flip)]
    views = resample(crops, affine_matrices(made), SHAPE)
    assert torch.equal(views[:1], centre_crop(crops, SHAPE)[:1])


@pytest.mark.parametrize("sigma", [0.0, 1.0], ids=["sharp", "blurred"])
def test_views_are_the_same_whatever_the_threads_and_the_batch(sigma: float) -> None:
    crops, made = crops_of(3), drawn(3, gaussian_blur_sigma=sigma)
    # How a blur's sums are rounded is up to the library that multiplies matrices.
    ulps = 4 * torch.finfo(torch.float32).eps if sigma else 0
    before = torch.get_num_threads()
    alone = apply(crops, made, SHAPE)
    try:
        for n_threads in (1, 2, 3):
            torch.set_num_threads(n_threads)
            same = {"atol": ulps, "rtol": 0}
            torch.testing.assert_close(apply(crops, made, SHAPE), alone, **same)
            torch.testing.assert_close(apply(crops[2:], made[2:], SHAPE), alone[2:], **same)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("n_threads", [1, 2])
def test_views_can_be_made_in_inference_mode(n_threads: int) -> None:
    crops, made = crops_of(2), drawn(2)
    expected = apply(crops, made, SHAPE)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(n_threads)
        with torch.inference_mode():
            inferred = apply(crops, made, SHAPE)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(inferred, expected)


def test_crops_need_not_be_contiguous() -> None:
    crops, made = crops_of(2, (23, 28, 21)).transpose(2, 4), drawn(2)
    copied = apply(crops.contiguous(), made, SHAPE)
    assert torch.equal(apply(crops, made, SHAPE), copied)


@pytest.mark.parametrize("crops", [crops_of(2).double(), crops_of(2).requires_grad_()])
def test_other_precisions_and_gradients_are_left_to_pytorch(crops: Tensor) -> None:
    views = apply(crops, drawn(2), SHAPE)
    assert views.requires_grad == crops.requires_grad
    assert views.dtype == crops.dtype


def test_where_nothing_can_be_compiled_pytorch_computes_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    arguments = crops_of(2), affine_matrices(drawn(2)), SHAPE
    expected = by_pytorch(monkeypatch, *arguments)
    monkeypatch.setattr(resampling, "_resample", Loop("napari_synapse_cl.no_such_module", "one"))
    assert torch.equal(resample(*arguments), expected)

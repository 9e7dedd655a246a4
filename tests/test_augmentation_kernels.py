"""The compiled loops of the augmentations against PyTorch, which computes where there are none."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.ndimage as ndi
import torch
from torch import Tensor

from napari_synapse_cl import augmentations as aug
from napari_synapse_cl.augmentations import blurring, intensity, resampling
from napari_synapse_cl.config import AugmentationConfig
from napari_synapse_cl.system.loops import Loop

SHAPE = (11, 16, 13)
CONTEXT = (21, 28, 23)


def crops_of(n: int, shape: tuple[int, int, int] = CONTEXT) -> Tensor:
    return torch.rand(n, 1, *shape, generator=torch.Generator().manual_seed(0))


def drawn(n: int, **ranges: float) -> aug.AugmentationParameters:
    return aug.draw(AugmentationConfig(**ranges), n, torch.Generator().manual_seed(1))


def by_pytorch(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> Tensor:
    with monkeypatch.context() as patch:
        patch.setattr(Loop, "__call__", lambda *_: False)
        return aug.apply(*arguments)


def test_the_loops_are_what_computes_here() -> None:
    aug.apply(crops_of(1), drawn(1), SHAPE)
    loops = resampling._resample, blurring._blur, intensity._add_up, intensity._finish
    assert all(loop._function is not None for loop in loops)


@pytest.mark.parametrize("n", [1, 5])
@pytest.mark.parametrize("voxel_size", [(1, 1, 1), (40, 4, 4)], ids=["cubes", "thick sections"])
@pytest.mark.parametrize("rotation", [15, 180])
@pytest.mark.parametrize("sigma", [1, 8])
def test_views_are_those_of_pytorch_but_for_rounding(
    n: int, voxel_size: tuple, rotation: float, sigma: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    parameters = drawn(n, rotation_range=rotation, gaussian_blur_sigma=sigma)
    arguments = crops_of(n), parameters, SHAPE, voxel_size
    torch.testing.assert_close(
        aug.apply(*arguments), by_pytorch(monkeypatch, *arguments), atol=5e-5, rtol=0
    )


@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (1, 2, 3), (5, 4, 7)], ids=["a voxel", "a slice", "smaller than the view"]
)
def test_what_lies_far_beyond_a_crop_is_reflected_as_in_scipy(shape: tuple) -> None:
    crops = crops_of(3, shape)
    matrices = aug.affine_matrices(drawn(3, rotation_range=180))
    views = aug.resample(crops, matrices, SHAPE)
    centre_in, centre_out = (np.array(shape) - 1) / 2, (np.array(SHAPE) - 1) / 2
    for crop, view, matrix in zip(crops, views, matrices.numpy(), strict=True):
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
    parameters = replace(
        drawn(2, flip_prob=0), angles=torch.tensor([[0.0, 0.0, 0.0], [5.0, -8.0, 3.0]])
    )
    views = aug.resample(crops, aug.affine_matrices(parameters), SHAPE)
    assert torch.equal(views[:1], aug.centre_crop(crops, SHAPE)[:1])


@pytest.mark.parametrize("sigma", [0.0, 0.2, 1.0, 3.7])
@pytest.mark.parametrize("shape", [(11, 16, 13), (1, 3, 2)], ids=["wide", "narrower than kernels"])
def test_blur_is_that_of_scipy(sigma: float, shape: tuple) -> None:
    views = crops_of(2, shape)
    blurred = aug.blur(views, torch.tensor([sigma, 0.6]))
    for view, result, s in zip(views, blurred, (sigma, 0.6), strict=True):
        reference = ndi.gaussian_filter(view[0].double().numpy(), np.float32(s), mode="reflect")
        np.testing.assert_allclose(result[0].numpy(), reference, atol=1e-6)


def test_contrast_brightness_and_limits_are_those_written_down() -> None:
    views, parameters = crops_of(3), drawn(3, noise_level=0, contrast_range=0.9)
    exact = views.double()
    mean = exact.mean(dim=(1, 2, 3, 4), keepdim=True)
    contrast, brightness = (
        one.double().view(-1, 1, 1, 1, 1) for one in (parameters.contrast, parameters.brightness)
    )
    reference = ((exact - mean) * contrast + mean + brightness).clamp(0, 1)
    finished = intensity.finish(views.clone(), parameters)
    torch.testing.assert_close(finished.double(), reference, atol=1e-6, rtol=0)


def test_noise_is_that_of_pytorch_to_the_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    still = drawn(3, contrast_range=0, brightness_range=0, noise_level=0)
    parameters = replace(still, noise_level=torch.tensor([0.25, 0.0, 0.5]))
    # Of a power of two the products are exact, so nothing but the noise can differ.
    views = torch.full((3, 1, *SHAPE), 0.5)
    finished = intensity.finish(views.clone(), parameters)
    assert finished[0].std() > 0.2
    assert torch.equal(finished[1], views[1])
    monkeypatch.setattr(Loop, "__call__", lambda *_: False)
    assert torch.equal(finished, intensity.finish(views.clone(), parameters))


def test_views_are_the_same_to_the_bit_whatever_the_threads_and_the_batch() -> None:
    crops, parameters = crops_of(3), drawn(3)
    n_threads = torch.get_num_threads()
    alone = aug.apply(crops, parameters, SHAPE)
    try:
        torch.set_num_threads(3)
        shared = aug.apply(crops, parameters, SHAPE)
    finally:
        torch.set_num_threads(n_threads)
    assert torch.equal(alone, shared)
    last = aug.AugmentationParameters(**{k: v[2:] for k, v in vars(parameters).items()})
    assert torch.equal(aug.apply(crops[2:], last, SHAPE), alone[2:])


@pytest.mark.parametrize("n_threads", [1, 2])
def test_views_can_be_made_in_inference_mode(n_threads: int) -> None:
    crops, parameters = crops_of(2), drawn(2)
    expected = aug.apply(crops, parameters, SHAPE)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(n_threads)
        with torch.inference_mode():
            made = aug.apply(crops, parameters, SHAPE)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(made, expected)


def test_crops_need_not_be_contiguous() -> None:
    crops, parameters = crops_of(2, (23, 28, 21)).transpose(2, 4), drawn(2)
    copied = aug.apply(crops.contiguous(), parameters, SHAPE)
    assert torch.equal(aug.apply(crops, parameters, SHAPE), copied)


@pytest.mark.parametrize("crops", [crops_of(2).double(), crops_of(2).requires_grad_()])
def test_other_precisions_and_gradients_are_left_to_pytorch(crops: Tensor) -> None:
    matrices = aug.affine_matrices(drawn(2))
    views = aug.resample(crops.float(), matrices, SHAPE)
    assert views.requires_grad == crops.requires_grad
    assert aug.blur(crops, torch.tensor([0.5, 1.0])).dtype == crops.dtype


def test_where_nothing_can_be_compiled_pytorch_computes_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    arguments = crops_of(2), drawn(2), SHAPE
    expected = by_pytorch(monkeypatch, *arguments)
    for module, name in [
        (resampling, "_resample"),
        (blurring, "_blur"),
        (intensity, "_add_up"),
        (intensity, "_finish"),
    ]:
        monkeypatch.setattr(module, name, Loop("napari_synapse_cl.no_such_module", name))
    assert torch.equal(aug.apply(*arguments), expected)

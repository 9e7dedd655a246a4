"""Each augmentation against SciPy in float64, on the very parameters that were drawn."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.ndimage as ndi
import torch
from torch import Tensor

from napari_synapse_cl import augmentations as aug
from napari_synapse_cl.augmentations.context import context_shape
from napari_synapse_cl.config import AugmentationConfig
from napari_synapse_cl.system.loops import Loop

SHAPE = (12, 16, 14)
STILL = AugmentationConfig(
    rotation_range=0,
    flip_prob=0,
    noise_level=0,
    contrast_range=0,
    brightness_range=0,
    gaussian_blur_sigma=0,
)


def tissue(n: int = 4, shape: tuple[int, int, int] = (24, 28, 26), seed: int = 0) -> Tensor:
    """Smooth random crops in [0, 1]."""
    noise = np.random.default_rng(seed).random((n, *shape))
    smooth = np.stack([ndi.gaussian_filter(crop, 1.5) for crop in noise])
    low, high = smooth.min(), smooth.max()
    return torch.from_numpy((smooth - low) / (high - low)).float()[:, None]


def drawn(n: int = 4, **ranges: float) -> aug.AugmentationParameters:
    generator = torch.Generator().manual_seed(1)
    return aug.draw(AugmentationConfig(**ranges), n, generator)


def scipy_rotation(angles: Tensor) -> np.ndarray:
    """Rz @ Ry @ Rx on (z, y, x) vectors, written out from sines and cosines."""
    z, y, x = np.deg2rad(angles.double().numpy())
    about_z = [[1, 0, 0], [0, np.cos(z), -np.sin(z)], [0, np.sin(z), np.cos(z)]]
    about_y = [[np.cos(y), 0, -np.sin(y)], [0, 1, 0], [np.sin(y), 0, np.cos(y)]]
    about_x = [[np.cos(x), -np.sin(x), 0], [np.sin(x), np.cos(x), 0], [0, 0, 1]]
    return np.array(about_z) @ np.array(about_y) @ np.array(about_x)


@pytest.fixture(params=["compiled", "PyTorch"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """By what the views are computed."""
    if request.param == "PyTorch":
        monkeypatch.setattr(Loop, "__call__", lambda *_: False)


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("voxel_size", [(1, 1, 1), (40, 4, 4)], ids=["cubes", "thick sections"])
def test_rotation_and_flips_equal_one_scipy_resampling(voxel_size: tuple) -> None:
    crops = tissue()
    parameters = drawn(rotation_range=15, flip_prob=0.5)
    assert parameters.flips.any()
    assert not parameters.flips.all()
    views = aug.resample(crops, aug.affine_matrices(parameters, voxel_size), SHAPE)
    size = np.array(voxel_size, float)
    for i, view in enumerate(views[:, 0]):
        flips = np.diag(np.where(parameters.flips[i], -1.0, 1.0))
        matrix = np.diag(1 / size) @ scipy_rotation(parameters.angles[i]) @ flips @ np.diag(size)
        centre_in, centre_out = (np.array(crops.shape[2:]) - 1) / 2, (np.array(SHAPE) - 1) / 2
        reference = ndi.affine_transform(
            crops[i, 0].double().numpy(),
            matrix,
            offset=centre_in - matrix @ centre_out,
            output_shape=SHAPE,
            order=1,
            mode="reflect",
        )
        np.testing.assert_allclose(view.numpy(), reference, atol=2e-5)


@pytest.mark.usefixtures("path")
def test_a_flip_without_rotation_is_the_reversed_crop() -> None:
    crops = tissue()
    parameters = drawn(rotation_range=0, flip_prob=1)
    views = aug.resample(crops, aug.affine_matrices(parameters), crops.shape[2:])
    torch.testing.assert_close(views, crops.flip(2, 3, 4), atol=1e-5, rtol=0)


@pytest.mark.usefixtures("path")
def test_blur_equals_scipy_gaussian_filter_each_with_its_own_sigma() -> None:
    views = tissue(shape=SHAPE)
    sigma = torch.tensor([0.0, 0.1, 0.8, 3.7])
    blurred = aug.blur(views, sigma)
    for view, result, s in zip(views[:, 0], blurred[:, 0], sigma.tolist(), strict=True):
        reference = ndi.gaussian_filter(view.double().numpy(), s, mode="reflect", truncate=4.0)
        np.testing.assert_allclose(result.numpy(), reference, atol=1e-6)


def test_contrast_and_brightness_are_an_affine_map_about_the_mean() -> None:
    views = tissue(shape=SHAPE)
    parameters = drawn(contrast_range=0.5, brightness_range=0.3)
    adjusted = aug.adjust_intensity(views, parameters.contrast, parameters.brightness)
    for i, (view, result) in enumerate(zip(views.double(), adjusted, strict=True)):
        mean = view.mean()
        reference = (view - mean) * parameters.contrast[i] + mean + parameters.brightness[i]
        torch.testing.assert_close(result.double(), reference, atol=1e-6, rtol=0)


@pytest.mark.usefixtures("path")
def test_noise_has_the_drawn_strength_and_comes_from_its_own_seed() -> None:
    views = torch.full((3, 1, 32, 32, 32), 0.5)
    level, seed = torch.tensor([0.0, 0.02, 0.1]), torch.tensor([5, 6, 7])
    noise = aug.add_noise(views, level, seed) - views
    assert noise[0].abs().max() == 0
    assert noise[1].std().item() == pytest.approx(0.02, rel=0.02)
    assert noise[2].std().item() == pytest.approx(0.1, rel=0.02)
    assert noise[2].mean().item() == pytest.approx(0, abs=0.002)
    alone = aug.add_noise(views[2:], level[2:], seed[2:]) - views[2:]
    torch.testing.assert_close(alone[0], noise[2])


@pytest.mark.usefixtures("path")
def test_with_all_ranges_zero_a_view_is_the_centre_of_its_crop_to_the_bit() -> None:
    crops = tissue()
    parameters = aug.draw(STILL, len(crops), torch.Generator().manual_seed(0))
    view = aug.apply(crops, parameters, SHAPE)
    assert torch.equal(view, crops[:, :, 6:18, 6:22, 6:20])


@pytest.mark.usefixtures("path")
def test_views_lie_in_the_unit_range_and_leave_the_crops_alone() -> None:
    crops = tissue()
    before = crops.clone()
    parameters = drawn(brightness_range=1, noise_level=1, contrast_range=0.9)
    views = aug.apply(crops, parameters, SHAPE)
    assert views.min() == 0
    assert views.max() == 1
    assert torch.equal(crops, before)


def test_draws_stay_in_their_ranges_and_fill_them() -> None:
    config = AugmentationConfig()
    p = aug.draw(config, 4000, torch.Generator().manual_seed(0))
    bounds = {
        "angles": (-15, 15),
        "blur_sigma": (0, 1),
        "contrast": (0.8, 1.2),
        "brightness": (-0.2, 0.2),
        "noise_level": (0, 0.05),
    }
    for name, (low, high) in bounds.items():
        values = getattr(p, name)
        width = high - low
        assert low <= values.min() < low + 0.02 * width
        assert high - 0.02 * width < values.max() <= high
    assert p.flips.float().mean(dim=0).numpy() == pytest.approx([0.5] * 3, abs=0.05)


@pytest.mark.usefixtures("path")
def test_a_pair_is_the_same_whatever_batch_it_is_in() -> None:
    config, crops = AugmentationConfig(), tissue()
    together = aug.draw_pair(config, seed=3, epoch=2, synapses=[7, 1, 9, 4])
    alone = aug.draw_pair(config, seed=3, epoch=2, synapses=[9])
    for view, single in zip(together, alone, strict=True):
        a = aug.apply(crops, view, SHAPE)[2:3]
        b = aug.apply(crops[2:3], single, SHAPE)
        torch.testing.assert_close(a, b, atol=1e-6, rtol=0)


def test_what_is_drawn_for_a_synapse_stays_what_it_was_in_earlier_versions() -> None:
    one, two = aug.draw_pair(AugmentationConfig(), seed=3, epoch=2, synapses=[7, 41])
    assert one.angles[0].tolist() == [13.095519065856934, 6.696093559265137, 13.753266334533691]
    assert two.angles[1].tolist() == [11.514387130737305, 0.2561742067337036, 11.667632102966309]
    assert one.flips.tolist() == [[True, True, True], [False, True, True]]
    assert two.flips.tolist() == [[True, False, True], [False, True, True]]
    assert one.blur_sigma.tolist() == [0.1377747654914856, 0.6862923502922058]
    assert two.contrast.tolist() == [0.937926709651947, 1.165682077407837]
    assert one.brightness.tolist() == [-0.001899552415125072, -0.0620894692838192]
    assert two.noise_level.tolist() == [0.0007473439327441156, 0.037546005100011826]
    assert one.noise_seed.tolist() == [780074404327984566, 2959188228705038400]
    assert two.noise_seed.tolist() == [3285569182307553776, 3180187265058690515]


def test_the_same_seed_gives_the_same_pair_and_another_gives_another() -> None:
    config = AugmentationConfig()
    draws = [
        aug.draw_pair(config, seed, epoch, [synapse])[0].angles
        for seed, epoch, synapse in [(0, 1, 5), (0, 1, 5), (1, 1, 5), (0, 2, 5), (0, 1, 6)]
    ]
    assert torch.equal(draws[0], draws[1])
    assert all(not torch.equal(draws[0], other) for other in draws[2:])


def test_the_two_views_of_a_pair_differ() -> None:
    one, two = aug.draw_pair(AugmentationConfig(), 0, 1, [0])
    assert not torch.equal(one.angles, two.angles)
    assert one.noise_seed != two.noise_seed


@pytest.mark.parametrize(
    ("shape", "rotation", "voxel_size"),
    [((80, 80, 80), 15, (1, 1, 1)), ((16, 64, 64), 15, (40, 4, 4)), ((16, 16, 16), 180, (1, 1, 1))],
)
def test_context_is_enough_for_every_rotation(
    shape: tuple, rotation: float, voxel_size: tuple
) -> None:
    config = AugmentationConfig(rotation_range=rotation)
    context = context_shape(shape, config, voxel_size)
    p = aug.draw(config, 5000, torch.Generator().manual_seed(0))
    corners = torch.tensor(
        np.stack(np.meshgrid(*[[-(n - 1) / 2, (n - 1) / 2] for n in shape])).reshape(3, -1)
    )
    reach = (aug.affine_matrices(p, voxel_size) @ corners).abs().amax(dim=(0, 2))
    room = (torch.tensor(context) - 1) / 2
    assert (reach <= room).all()
    assert all((c - s) % 2 == 0 for c, s in zip(context, shape, strict=True))


def test_80_voxels_at_15_degrees_need_no_more_than_120() -> None:
    assert max(context_shape((80, 80, 80), AugmentationConfig())) <= 120


def test_the_context_of_other_settings_does_not_depend_on_what_was_asked_before() -> None:
    narrow, wide = (AugmentationConfig(rotation_range=angle) for angle in (5, 40))
    first = context_shape([16, 16, 16], narrow)
    assert context_shape(np.array([16, 16, 16]), wide) > first
    assert context_shape((16, 16, 16), narrow, (40, 4, 4)) != first
    assert context_shape((16, 16, 16), narrow, [1, 1, 1]) == first


def test_a_view_is_described_by_what_was_drawn() -> None:
    parameters = drawn(n=1)
    text = aug.describe(parameters, 0)
    angle = f"{parameters.angles[0, 0]:.1f}".replace("-", "−")
    assert f"rotated {angle}° about z" in text
    assert f"blur σ {parameters.blur_sigma[0]:.2f} voxels" in text


def test_numbers_are_described_with_true_minus_signs_and_zeros_without() -> None:
    parameters = replace(
        drawn(n=1),
        angles=torch.tensor([[11.34, -4.0, -0.01]]),
        flips=torch.tensor([[False, False, True]]),
        brightness=torch.tensor([-0.03]),
    )
    text = aug.describe(parameters, 0)
    assert text.startswith("rotated 11.3° about z, −4.0° about y, 0.0° about x; flipped x; ")
    assert "brightness −0.03" in text
    assert "-" not in text
    still = aug.describe(aug.draw(STILL, 1, torch.Generator()), 0)
    assert still.startswith("not rotated; not flipped; ")
    assert "brightness +0.00" in still

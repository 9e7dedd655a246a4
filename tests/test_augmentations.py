"""Each augmentation against SciPy in float64, on the very parameters that were drawn."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

import numpy as np
import pytest
import scipy.ndimage as ndi
import torch
from torch import Tensor

from napari_synapse_cl.augmentations import composition, transforms
from napari_synapse_cl.augmentations.base import IntensityTransform, SpatialTransform, per_view
from napari_synapse_cl.augmentations.composition import (
    Drawn,
    affine_matrices,
    apply,
    describe,
    draw,
    draw_pair,
    plain_values,
)
from napari_synapse_cl.augmentations.detail import Blur
from napari_synapse_cl.augmentations.greys import Brightness, Contrast, Noise
from napari_synapse_cl.augmentations.resampling import centre_crop, resample
from napari_synapse_cl.augmentations.spatial import Flip, Rotation
from napari_synapse_cl.augmentations.transforms import (
    INTENSITY,
    SECTIONS,
    SPATIAL,
    context_settings,
    context_shape,
)
from napari_synapse_cl.config import AugmentationConfig
from napari_synapse_cl.system.loops import Loop

SHAPE = (12, 16, 14)
STILL: dict[str, Any] = {one.settings[0]: 0 for one in (*SECTIONS, *SPATIAL, *INTENSITY)}


def tissue(n: int = 4, shape: tuple[int, int, int] = (24, 28, 26), seed: int = 0) -> Tensor:
    """Smooth random crops in [0, 1]."""
    noise = np.random.default_rng(seed).random((n, *shape))
    smooth = np.stack([ndi.gaussian_filter(crop, 1.5) for crop in noise])
    low, high = smooth.min(), smooth.max()
    return torch.from_numpy((smooth - low) / (high - low)).float()[:, None]


def drawn(n: int = 4, **ranges: float) -> list[Drawn]:
    """What is drawn for n views."""
    return draw(AugmentationConfig(**ranges), seed=1, epoch=1, synapses=range(n), view=1)


def drawn_alone(n: int = 4, **ranges: float) -> list[Any]:
    """What is drawn for n views of the one transform that is on."""
    return [one for (one,) in drawn(n, **{**STILL, **ranges})]


def scipy_rotation(angles: Sequence[float]) -> np.ndarray:
    """Rz @ Ry @ Rx on (z, y, x) vectors, written out from sines and cosines."""
    z, y, x = np.deg2rad(angles)
    about_z = [[1, 0, 0], [0, np.cos(z), -np.sin(z)], [0, np.sin(z), np.cos(z)]]
    about_y = [[np.cos(y), 0, -np.sin(y)], [0, 1, 0], [np.sin(y), 0, np.cos(y)]]
    about_x = [[np.cos(x), -np.sin(x), 0], [np.sin(x), np.cos(x), 0], [0, 0, 1]]
    return np.array(about_z) @ np.array(about_y) @ np.array(about_x)


def scipy_view(crop: Tensor, matrix: np.ndarray, shift: np.ndarray | float = 0) -> np.ndarray:
    """A view of the central SHAPE of a crop, through a map of voxel offsets."""
    centre_in, centre_out = (np.array(crop.shape) - 1) / 2, (np.array(SHAPE) - 1) / 2
    return ndi.affine_transform(
        crop.double().numpy(),
        matrix,
        offset=centre_in + shift - matrix @ centre_out,
        output_shape=SHAPE,
        order=1,
        mode="reflect",
    )


@pytest.fixture(params=["compiled", "PyTorch"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """By what the views are computed."""
    if request.param == "PyTorch":
        monkeypatch.setattr(Loop, "__call__", lambda *_: False)


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("voxel_size", [(1, 1, 1), (40, 4, 4)], ids=["cubes", "thick sections"])
def test_rotation_and_flips_equal_one_scipy_resampling(voxel_size: tuple) -> None:
    crops = tissue()
    made = drawn(rotation_range=15, flip_prob=0.5)
    flips = np.array([flip.flips for _, flip, *_ in made])
    assert flips.any()
    assert not flips.all()
    views = resample(crops, affine_matrices(made, voxel_size), SHAPE)
    size = np.array(voxel_size, float)
    for crop, view, (rotation, flip, *_) in zip(crops, views, made, strict=True):
        signs = np.diag(np.where(flip.flips, -1.0, 1.0))
        matrix = np.diag(1 / size) @ scipy_rotation(rotation.angles) @ signs @ np.diag(size)
        np.testing.assert_allclose(view[0].numpy(), scipy_view(crop[0], matrix), atol=2e-5)


@pytest.mark.usefixtures("path")
def test_a_flip_without_rotation_is_the_reversed_crop() -> None:
    crops = tissue()
    views = apply(crops, drawn(**{**STILL, "flip_prob": 1}), crops.shape[2:])
    torch.testing.assert_close(views, crops.flip(2, 3, 4), atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", [SHAPE, (1, 3, 2)], ids=["wide", "narrower than kernels"])
def test_blur_equals_scipy_gaussian_filter_each_with_its_own_sigma(shape: tuple) -> None:
    views = tissue(shape=shape)
    sigmas = [0.0, 0.1, 0.8, 3.7]
    blurred = Blur.apply(views, [Blur(sigma) for sigma in sigmas])
    for view, result, sigma in zip(views, blurred, sigmas, strict=True):
        exact = view[0].double().numpy()
        reference = ndi.gaussian_filter(exact, sigma, mode="reflect", truncate=4.0)
        np.testing.assert_allclose(result[0].numpy(), reference, atol=1e-6)


def test_contrast_is_a_factor_about_the_mean_of_each_view() -> None:
    views, made = tissue(shape=SHAPE), drawn_alone(contrast_range=0.5)
    exact = views.double()
    changed = Contrast.apply(views, made)
    for view, result, one in zip(exact, changed, made, strict=True):
        reference = (view - view.mean()) * one.contrast + view.mean()
        torch.testing.assert_close(result.double(), reference, atol=1e-6, rtol=0)


def test_brightness_is_added_to_each_view() -> None:
    views, made = tissue(shape=SHAPE), drawn_alone(brightness_range=0.3)
    exact = views.double()
    changed = Brightness.apply(views, made)
    for view, result, one in zip(exact, changed, made, strict=True):
        torch.testing.assert_close(result.double(), view + one.brightness, atol=1e-6, rtol=0)


def test_noise_has_the_drawn_strength_and_comes_from_its_own_seed() -> None:
    made = [Noise(0.0, 5), Noise(0.02, 6), Noise(0.1, 7)]
    noise = Noise.apply(torch.zeros(3, 1, 32, 32, 32), made)
    assert noise[0].abs().max() == 0
    assert noise[1].std().item() == pytest.approx(0.02, rel=0.02)
    assert noise[2].std().item() == pytest.approx(0.1, rel=0.02)
    assert noise[2].mean().item() == pytest.approx(0, abs=0.002)
    assert torch.equal(Noise.apply(torch.zeros(1, 1, 32, 32, 32), made[2:])[0], noise[2])


def test_intensities_are_changed_in_order_and_cut_off_at_last() -> None:
    crops = tissue()
    made = drawn(**{**STILL, "gaussian_blur_sigma": 2, "contrast_range": 0.9, "noise_level": 0.3})
    views = centre_crop(crops, SHAPE).clone()
    for transform, records in zip((Blur, Contrast, Noise), zip(*made, strict=True), strict=True):
        views = transform.apply(views, records)
    assert views.min() < 0
    torch.testing.assert_close(apply(crops, made, SHAPE), views.clamp(0, 1))


@pytest.mark.usefixtures("path")
def test_with_all_ranges_zero_a_view_is_the_centre_of_its_crop_to_the_bit() -> None:
    crops = tissue()
    view = apply(crops, drawn(**STILL), SHAPE)
    assert torch.equal(view, crops[:, :, 6:18, 6:22, 6:20])


@pytest.mark.usefixtures("path")
def test_views_lie_in_the_unit_range_and_leave_the_crops_alone() -> None:
    crops = tissue()
    before = crops.clone()
    for ranges in ({}, STILL):
        more = {**ranges, "brightness_range": 1, "noise_level": 1, "contrast_range": 0.9}
        views = apply(crops, drawn(**more), SHAPE)
        assert views.min() == 0
        assert views.max() == 1
        assert torch.equal(crops, before)


def test_draws_stay_in_their_ranges_and_fill_them() -> None:
    values = [plain_values(one) for one in drawn(4000)]
    bounds = {
        "angles": (-15, 15),
        "blur_sigma": (0, 1),
        "contrast": (0.8, 1.2),
        "brightness": (-0.2, 0.2),
        "noise_level": (0, 0.05),
        "noise_seed": (0, 2**53),
    }
    for name, (low, high) in bounds.items():
        column = np.array([one[name] for one in values])
        width = high - low
        assert low <= column.min() < low + 0.02 * width
        assert high - 0.02 * width < column.max() <= high
        assert column.mean() == pytest.approx((low + high) / 2, abs=0.05 * width)
    flips = np.array([one["flips"] for one in values])
    assert flips.mean(axis=0) == pytest.approx([0.5] * 3, abs=0.05)


@pytest.mark.usefixtures("path")
def test_a_pair_is_the_same_whatever_batch_it_is_in() -> None:
    config, crops = AugmentationConfig(), tissue()
    together = draw_pair(config, seed=3, epoch=2, synapses=[7, 1, 9, 4])
    alone = draw_pair(config, seed=3, epoch=2, synapses=[9])
    for views, single in zip(together, alone, strict=True):
        assert views[2:3] == single
        a = apply(crops, views, SHAPE)[2:3]
        b = apply(crops[2:3], single, SHAPE)
        torch.testing.assert_close(a, b, atol=1e-6, rtol=0)


def test_what_is_drawn_for_a_synapse_stays_what_it_was_in_earlier_versions() -> None:
    one, two = draw_pair(AugmentationConfig(), seed=3, epoch=2, synapses=[7, 41])
    assert one[0] == (
        Rotation((-10.076292553206143, -14.256688721065506, -10.202250274499876)),
        Flip((False, True, False)),
        Blur(0.5317815301773066),
        Contrast(1.010340425162154),
        Brightness(0.1646135973128826),
        Noise(0.02854740213273559, 7517992472607097),
    )
    assert two[1] == (
        Rotation((-13.05902846223365, 8.245570875356258, 1.4746751119856027)),
        Flip((True, True, False)),
        Blur(0.697167713404526),
        Contrast(0.9613951439429246),
        Brightness(-0.09713225107277378),
        Noise(0.03600163615467626, 4551406693378570),
    )


def test_another_seed_epoch_synapse_or_view_draws_other_values_of_each_transform() -> None:
    config = AugmentationConfig()
    key = {"seed": 0, "epoch": 1, "synapses": [5], "view": 1}
    (first,) = draw(config, **key)
    assert draw(config, **key) == [first]
    for other in ({"seed": 1}, {"epoch": 2}, {"synapses": [6]}, {"view": 2}):
        (second,) = draw(config, **{**key, **other})
        assert all(a != b for a, b in zip(first, second, strict=True) if not isinstance(a, Flip))


def test_views_and_transforms_draw_independently_of_each_other() -> None:
    columns = []
    for views in draw_pair(AugmentationConfig(), seed=0, epoch=1, synapses=range(2000)):
        values = [plain_values(one) for one in views]
        columns += np.array([v["angles"] for v in values]).T.tolist()
        names = ("blur_sigma", "contrast", "brightness", "noise_level", "noise_seed")
        columns += [[v[name] for v in values] for name in names]
    assert np.abs(np.corrcoef(columns) - np.eye(16)).max() < 0.1


def test_what_is_off_draws_nothing_and_changes_nothing_that_others_draw(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rotation, *_ = drawn(1)[0]
    assert drawn(1, **{**STILL, "rotation_range": 15}) == [(rotation,)]
    monkeypatch.delattr(composition, "stream")
    assert drawn(2, **STILL) == [(), ()]


def test_views_with_other_settings_are_not_of_one_batch() -> None:
    mixed = drawn(1) + drawn(1, **STILL)
    with pytest.raises(ValueError, match="same settings"):
        apply(tissue(2), mixed, SHAPE)


def test_each_setting_is_read_by_one_transform_and_no_two_share_a_name() -> None:
    transforms = [*SECTIONS, *SPATIAL, *INTENSITY]
    settings = [setting for one in transforms for setting in one.settings]
    of_all = {"grey_unit", "grey_spread"}
    assert sorted(settings) == sorted(AugmentationConfig.model_fields.keys() - of_all)
    assert len({one.name for one in transforms}) == len(transforms)
    names = [field.name for one in transforms for field in fields(one)]
    assert len(set(names)) == len(names)


class More(AugmentationConfig):
    """Settings of two more transforms."""

    drift_range: float = 0.0
    power_range: float = 0.0


@dataclass(frozen=True)
class Drift(SpatialTransform):
    """Moves the centre along all axes."""

    drift: tuple[float, ...]

    name: ClassVar[str] = "drift"
    settings: ClassVar[tuple[str, ...]] = ("drift_range",)

    @classmethod
    def draw(cls, config: Any, random: Any) -> "Drift":
        return cls(tuple(config.drift_range * (2 * one - 1) for one in random(3)))

    def describe(self) -> str:
        return f"shifted {self.drift[0]:.1f}"

    @classmethod
    def matrices(cls, drawn: Sequence["Drift"]) -> np.ndarray:
        return np.tile(np.eye(3), (len(drawn), 1, 1))

    @classmethod
    def shifts(cls, drawn: Sequence["Drift"]) -> np.ndarray:
        return np.array([one.drift for one in drawn])

    @classmethod
    def reach(cls, config: Any, extent: np.ndarray) -> np.ndarray:
        return extent + config.drift_range


@dataclass(frozen=True)
class Power(IntensityTransform):
    """Raises intensities to a power."""

    power: float

    name: ClassVar[str] = "power"
    settings: ClassVar[tuple[str, ...]] = ("power_range",)

    @classmethod
    def draw(cls, config: Any, random: Any) -> "Power":
        return cls(1 + config.power_range * random(1)[0])

    def describe(self) -> str:
        return f"power {self.power:.1f}"

    @classmethod
    def apply(cls, views: Tensor, drawn: Sequence["Power"]) -> Tensor:
        return views.pow_(per_view(views, [one.power for one in drawn]))


@pytest.fixture
def two_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two more transforms, in the midst of the others."""
    for module in (composition, transforms):
        monkeypatch.setattr(module, "SPATIAL", (Rotation, Drift, Flip))
    monkeypatch.setattr(composition, "INTENSITY", (Power, *INTENSITY))


def test_a_further_transform_changes_nothing_that_others_draw(
    request: pytest.FixtureRequest,
) -> None:
    (without,) = drawn(1)
    request.getfixturevalue("two_more")
    key = {"seed": 1, "epoch": 1, "synapses": [0], "view": 1}
    assert draw(More(), **key) == [without]
    ((rotation, drift, flip, power, *rest),) = draw(More(drift_range=9, power_range=2), **key)
    assert (rotation, flip, *rest) == without
    words = describe((rotation, drift, flip, power, *rest))
    assert f"about x; {drift.describe()}; {flip.describe()}; {power.describe()}; blur" in words
    assert words.count(";") == describe(without).count(";") + 2
    values = plain_values((drift, power))
    assert values == {"drift": list(drift.drift), "power": power.power}


@pytest.mark.usefixtures("path", "two_more")
@pytest.mark.parametrize("voxel_size", [(1, 1, 1), (10, 4, 4)], ids=["cubes", "thick sections"])
def test_a_further_spatial_transform_is_in_the_one_resampling_and_in_the_context(
    voxel_size: tuple,
) -> None:
    config = More(**{**STILL, "rotation_range": 20, "flip_prob": 0.5, "drift_range": 9})
    shape = context_shape(SHAPE, config, voxel_size)
    alone = More(**{**STILL, "drift_range": 9})
    assert context_settings(config) == ["rotation_range", "drift_range"]
    margins = [int(np.ceil(9 / size)) + 1 for size in voxel_size]
    wider = tuple(n + 2 * margin for n, margin in zip(SHAPE, margins, strict=True))
    assert context_shape(SHAPE, alone, voxel_size) == wider
    made = draw(config, seed=1, epoch=1, synapses=range(4), view=1)
    matrices = affine_matrices(made, voxel_size)
    corners = np.stack(np.meshgrid(*[[-(n - 1) / 2, (n - 1) / 2] for n in SHAPE])).reshape(3, -1)
    reached = np.abs(matrices[:, :, :3] @ corners + matrices[:, :, 3:]).max(axis=(0, 2))
    assert (reached <= (np.array(shape) - 1) / 2).all()
    crops, size = tissue(shape=shape), np.array(voxel_size, float)
    views = apply(crops, made, SHAPE, voxel_size)
    for crop, view, (rotation, drift, flip) in zip(crops, views, made, strict=True):
        turn = scipy_rotation(rotation.angles)
        signs = np.diag(np.where(flip.flips, -1.0, 1.0))
        matrix = np.diag(1 / size) @ turn @ signs @ np.diag(size)
        reference = scipy_view(crop[0], matrix, turn @ drift.drift / size)
        np.testing.assert_allclose(view[0].numpy(), reference, atol=2e-5)


@pytest.mark.usefixtures("two_more")
def test_a_further_intensity_transform_comes_after_the_resampling_and_before_noise() -> None:
    config = More(**{**STILL, "power_range": 2, "noise_level": 0.1})
    crops, made = tissue(), draw(config, seed=1, epoch=1, synapses=range(4), view=1)
    views = centre_crop(crops, SHAPE)
    powers = views ** per_view(views, [power.power for power, _ in made])
    expected = Noise.apply(powers, [noise for _, noise in made]).clamp(0, 1)
    torch.testing.assert_close(apply(crops, made, SHAPE), expected)


@pytest.mark.parametrize(
    ("shape", "rotation", "voxel_size"),
    [((80, 80, 80), 15, (1, 1, 1)), ((16, 64, 64), 15, (40, 4, 4)), ((16, 16, 16), 180, (1, 1, 1))],
)
def test_context_is_enough_for_every_rotation(
    shape: tuple, rotation: float, voxel_size: tuple
) -> None:
    config = AugmentationConfig(rotation_range=rotation)
    wider = context_shape(shape, config, voxel_size)
    matrices = affine_matrices(drawn(5000, rotation_range=rotation), voxel_size)[:, :, :3]
    corners = np.stack(np.meshgrid(*[[-(n - 1) / 2, (n - 1) / 2] for n in shape])).reshape(3, -1)
    reach = np.abs(matrices @ corners).max(axis=(0, 2))
    assert (reach <= (np.array(wider) - 1) / 2).all()
    assert all((c - s) % 2 == 0 for c, s in zip(wider, shape, strict=True))


def test_flips_need_no_context() -> None:
    config = AugmentationConfig(**{**STILL, "flip_prob": 0.5})
    assert context_shape((15, 16, 17), config, (9.1, 3.3, 0.7)) == (15, 16, 17)
    assert context_settings(config) == []
    assert context_settings(AugmentationConfig()) == ["rotation_range"]


def test_80_voxels_at_15_degrees_need_no_more_than_120() -> None:
    assert max(context_shape((80, 80, 80), AugmentationConfig())) <= 120


def test_the_context_of_other_settings_does_not_depend_on_what_was_asked_before() -> None:
    narrow, wide = (AugmentationConfig(rotation_range=angle) for angle in (5, 40))
    first = context_shape([16, 16, 16], narrow)
    assert context_shape(np.array([16, 16, 16]), wide) > first
    assert context_shape((16, 16, 16), narrow, (40, 4, 4)) != first
    assert context_shape((16, 16, 16), narrow, [1, 1, 1]) == first


def test_a_view_is_described_by_what_was_drawn() -> None:
    rotation, _, blur, *_ = drawn(1)[0]
    text = describe(drawn(1)[0])
    angle = f"{rotation.angles[0]:.1f}".replace("-", "−")
    assert f"rotated {angle}° about z" in text
    assert f"blur σ {blur.blur_sigma:.2f} voxels" in text


def test_numbers_are_described_with_true_minus_signs_and_zeros_without() -> None:
    text = describe(
        (
            Rotation((11.34, -4.0, -0.01)),
            Flip((False, False, True)),
            Blur(0.5),
            Contrast(1.25),
            Brightness(-0.03),
            Noise(0.0123, 7),
        )
    )
    assert text == (
        "rotated 11.3° about z, −4.0° about y, 0.0° about x; flipped x; blur σ 0.50 voxels; "
        "contrast ×1.25; brightness −0.03; noise σ 0.012"
    )
    assert Flip((False, False, False)).describe() == "not flipped"
    assert Brightness(0.1).describe() == "brightness +0.10"


def test_what_is_off_is_described_as_such() -> None:
    assert describe(()) == (
        "not rotated; not flipped; blur σ 0.00 voxels; contrast ×1.00; brightness +0.00; "
        "noise σ 0.000"
    )


def test_what_was_drawn_can_be_changed_and_applied_again() -> None:
    crops, (first, second) = tissue(2), drawn(2)
    again = [tuple(replace(one) for one in view) for view in (first, second)]
    assert again == [first, second]
    assert hash(again[0]) == hash(first) != hash(second)
    assert torch.equal(apply(crops, again, SHAPE), apply(crops, [first, second], SHAPE))

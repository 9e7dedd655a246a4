"""Augmentations that are off by default, against SciPy in float64 on the parameters drawn."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import scipy.ndimage as ndi
import torch
from scipy.spatial.transform import Rotation as ScipyRotation
from torch import Tensor

from napari_synapse_cl.augmentations.base import section_numbers
from napari_synapse_cl.augmentations.composition import affine_matrices, apply, describe, draw
from napari_synapse_cl.augmentations.detail import Cutout
from napari_synapse_cl.augmentations.greys import Gamma, Speckle, noise_like
from napari_synapse_cl.augmentations.sections import (
    LostSections,
    SectionBlur,
    SectionBrightness,
    SlippedSections,
)
from napari_synapse_cl.augmentations.spatial import Scale, Shift, UniformRotation
from napari_synapse_cl.augmentations.transforms import (
    INTENSITY,
    SECTIONS,
    SPATIAL,
    changes_sections,
    check_voxel_size,
    context_settings,
    context_shape,
)
from napari_synapse_cl.config import AugmentationConfig
from napari_synapse_cl.errors import InputError

SHAPE = (12, 16, 14)
OFF: dict[str, Any] = {one.settings[0]: 0 for one in (*SECTIONS, *SPATIAL, *INTENSITY)}
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


@VOXELS
def test_an_even_rotation_is_that_of_its_quaternion_in_physical_space(voxel_size: tuple) -> None:
    config, size = alone(uniform_rotation=True), np.array(voxel_size, float)
    made, shape = drawn(config), context_shape(SHAPE, config, voxel_size)
    crops = tissue(shape=shape)
    views = apply(crops, [(one,) for one in made], SHAPE, voxel_size)
    for crop, view, one in zip(crops, views, made, strict=True):
        w, *axis = one.quaternion
        turn = ScipyRotation.from_quat([*axis, w]).as_matrix()
        reference = scipy_view(crop[0], np.diag(1 / size) @ turn @ np.diag(size))
        np.testing.assert_allclose(view[0].numpy(), reference, atol=2e-5)
    many = affine_matrices([(one,) for one in drawn(config, 2000)], voxel_size)
    assert (reached(many) <= (np.array(shape) - 1) / 2).all()


def test_rotations_are_drawn_evenly_from_all_that_there_are() -> None:
    turns = UniformRotation.matrices(drawn(alone(uniform_rotation=True), 4000))
    np.testing.assert_allclose(turns @ turns.mT, np.tile(np.eye(3), (4000, 1, 1)), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(turns), 1)
    # Where an axis is turned to is even on the sphere, so each of its coordinates is in [-1, 1].
    for column in turns.reshape(4000, 9).T:
        np.testing.assert_allclose(
            np.quantile(column, [0.25, 0.5, 0.75]), [-0.5, 0, 0.5], atol=0.05
        )
    # The angle has the density (1 - cos) / pi.
    angles = np.arccos((np.trace(turns, axis1=1, axis2=2).clip(-1, 3) - 1) / 2)
    assert angles.mean() == pytest.approx(np.pi / 2 + 2 / np.pi, rel=0.02)


def test_an_even_rotation_takes_the_place_of_the_three_angles_in_draws_and_words() -> None:
    key: dict[str, Any] = {"seed": 1, "epoch": 1, "synapses": [0], "view": 1}
    (_, *rest) = draw(AugmentationConfig(), **key)[0]
    made = draw(AugmentationConfig(uniform_rotation=True), **key)[0]
    assert list(made[1:]) == rest
    assert describe(made).count("rotated") == 1
    half = UniformRotation((np.cos(np.pi / 6), 0.0, -np.sin(np.pi / 6), 0.0))
    same = UniformRotation(tuple(-one for one in half.quaternion))
    for one in (half, same):
        assert one.describe() == "rotated 60.0° about the axis z, y, x = 0.00, −1.00, 0.00"


@VOXELS
def test_scale_zooms_alike_along_all_axes(voxel_size: tuple) -> None:
    config = alone(scale_range=0.5)
    made, shape = drawn(config), context_shape(SHAPE, config, voxel_size)
    crops = tissue(shape=shape)
    views = apply(crops, [(one,) for one in made], SHAPE, voxel_size)
    for crop, view, one in zip(crops, views, made, strict=True):
        np.testing.assert_allclose(
            view[0].numpy(), scipy_view(crop[0], np.eye(3) / one.scale), atol=2e-5
        )
    many = drawn(config, 2000)
    matrices = affine_matrices([(one,) for one in many], voxel_size)
    assert (reached(matrices) <= (np.array(shape) - 1) / 2).all()
    scales = np.array([one.scale for one in many])
    assert scales.min() == pytest.approx(1 / 1.5, rel=0.01)
    assert scales.max() == pytest.approx(1.5, rel=0.01)
    assert np.median(scales) == pytest.approx(1, abs=0.03)
    assert Scale(1.25).describe() == "magnified ×1.25"


def test_all_that_moves_tissue_is_one_resampling_in_the_order_flip_scale_rotation_shift() -> None:
    config = alone(shift_range=9, uniform_rotation=True, scale_range=0.3, flip_prob=0.5)
    size, shape = np.array((10.0, 4.0, 4.0)), context_shape(SHAPE, config, (10, 4, 4))
    made = draw(config, seed=1, epoch=1, synapses=range(4), view=1)
    crops = tissue(shape=shape)
    matrices = affine_matrices(made, size)
    assert (reached(matrices) <= (np.array(shape) - 1) / 2).all()
    views = apply(crops, made, SHAPE, size)
    for crop, view, (shift, rotation, scale, flip) in zip(crops, views, made, strict=True):
        (turn,) = UniformRotation.matrices([rotation])
        physical = turn @ np.diag(np.where(flip.flips, -1.0, 1.0)) / scale.scale
        matrix = np.diag(1 / size) @ physical @ np.diag(size)
        reference = scipy_view(crop[0], matrix, np.array(shift.shift) / size)
        np.testing.assert_allclose(view[0].numpy(), reference, atol=2e-5)
    names = ["shift_range", "uniform_rotation", "scale_range"]
    assert sorted(context_settings(config)) == sorted(names)


def test_gamma_is_a_power_of_each_view_and_keeps_black_and_white() -> None:
    views, made = tissue(), drawn(alone(gamma_range=1))
    exact = views.double()
    for view, result, one in zip(exact, Gamma.apply(views, made), made, strict=True):
        torch.testing.assert_close(result.double(), view**one.gamma, atol=1e-6, rtol=0)
    beyond = Gamma.apply(torch.tensor([-0.1, 0, 1, 1.1]).view(1, 1, 1, 1, 4), [Gamma(0.7)])
    assert beyond.flatten().tolist() == [0, 0, 1, 1]
    exponents = np.array([one.gamma for one in drawn(alone(gamma_range=1), 2000)])
    assert exponents.min() == pytest.approx(0.5, rel=0.01)
    assert exponents.max() == pytest.approx(2, rel=0.01)
    assert np.median(exponents) == pytest.approx(1, abs=0.05)
    assert Gamma(1.254).describe() == "gamma 1.25"


def test_speckle_multiplies_each_voxel_by_a_factor_about_one() -> None:
    views, made = tissue(), [Speckle(0.0, 5), Speckle(0.02, 6), Speckle(0.1, 7), Speckle(0.2, 8)]
    exact, noise = views.double(), noise_like(views, [5, 6, 7, 8]).double()
    results = Speckle.apply(views, made).double()
    assert torch.equal(results[0], exact[0])
    for view, one, result, record in zip(exact, noise, results, made, strict=True):
        reference = view * (1 + record.speckle_level * one)
        torch.testing.assert_close(result, reference, atol=1e-6, rtol=0)
    grey = Speckle.apply(torch.full((2, 1, 32, 32, 32), 0.5), [Speckle(0.1, 1), Speckle(0.2, 2)])
    assert grey.std(dim=(1, 2, 3, 4)).tolist() == pytest.approx([0.05, 0.1], rel=0.02)
    assert Speckle(0.0123, 1).describe() == "speckle σ 0.012"


def test_the_two_kinds_of_noise_are_drawn_apart() -> None:
    config = alone(speckle_level=0.1, noise_level=0.1)
    pairs = draw(config, seed=1, epoch=1, synapses=range(500), view=1)
    levels = [(speckle.speckle_level, noise.noise_level) for speckle, noise in pairs]
    assert abs(np.corrcoef(np.array(levels).T)[0, 1]) < 0.15
    assert all(speckle.speckle_seed != noise.noise_seed for speckle, noise in pairs)


def test_a_cutout_becomes_as_grey_as_its_view_and_all_else_stays() -> None:
    views = tissue(4, (10, 20, 16))
    exact = views.double().numpy()[:, 0]
    box = (0.1, 0.0, 0.5, 0.5, 0.25, 1.0)
    made = [Cutout(kind, box) for kind in ("cuboid", "corner", "periphery")]
    results = Cutout.apply(views, [*made, Cutout("", (0.0,) * 6)]).numpy()[:, 0]
    inside = np.zeros((10, 20, 16), bool)
    inside[1:5, :5, 8:] = True
    masks = (inside, inside, ~inside, np.zeros_like(inside))
    for view, result, mask in zip(exact, results, masks, strict=True):
        np.testing.assert_allclose(result, np.where(mask, view.mean(), view), atol=1e-6)


@pytest.mark.parametrize("kind", ["cuboid", "corner", "periphery"])
def test_cutouts_keep_their_sizes_stay_within_the_view_and_leave_the_centre(kind: str) -> None:
    made = drawn(alone(cutout_prob=0.5, cutout_size=0.5, cutout_kinds=kind), 3000)
    boxes = np.array([one.cutout_box for one in made if one.cutout_kind]).reshape(-1, 2, 3)
    assert len(boxes) / 3000 == pytest.approx(0.5, abs=0.04)
    assert {one.cutout_kind for one in made} == {"", kind}
    low, high = boxes[:, 0], boxes[:, 1]
    assert low.min() >= 0
    assert high.max() <= 1 + 1e-9
    sides = high - low
    lost = 1 - sides if kind == "periphery" else sides
    assert (lost.min(), lost.max()) == pytest.approx((0.25, 0.5), abs=0.01)
    holds_centre = ((low < 0.5) & (high > 0.5)).all(axis=1)
    assert holds_centre.all() if kind == "periphery" else not holds_centre.any()
    if kind == "corner":
        assert ((low == 0) | (high > 1 - 1e-9)).all()
    # No side is favoured.
    np.testing.assert_allclose((low + high).mean(axis=0) / 2, 0.5, atol=0.03)


def test_all_kinds_of_cutouts_are_drawn_alike_and_told() -> None:
    kinds = [one.cutout_kind for one in drawn(alone(cutout_prob=1), 3000)]
    for kind in ("cuboid", "corner", "periphery"):
        assert kinds.count(kind) / 3000 == pytest.approx(1 / 3, abs=0.03)
    box = (0.1, 0.0, 0.5, 0.5, 0.25, 1.0)
    assert Cutout("corner", box).describe() == "a corner of 40 × 25 × 50 % of the sides cut out"
    assert Cutout("periphery", box).describe() == "all but 40 × 25 × 50 % of the sides cut out"
    assert Cutout("", (0.0,) * 6).describe() == "nothing cut out"


def test_what_is_cut_out_bears_the_noise_of_the_view() -> None:
    config = alone(cutout_prob=1, noise_level=0.1)
    ((cutout, noise),) = draw(config, seed=1, epoch=1, synapses=[0], view=1)
    view = apply(tissue(1), [(cutout, noise)], SHAPE)
    assert len(torch.unique(view)) > 0.9 * view.numel()


def test_numbers_of_a_section_depend_neither_on_the_context_nor_on_the_batch() -> None:
    numbers = section_numbers([7, 8], 12, 3)
    np.testing.assert_array_equal(section_numbers([8], 20, 3)[0, 4:16], numbers[1])
    assert len(np.unique(numbers)) == numbers.size
    many = section_numbers([1], 20_000, 1)
    assert np.histogram(many, 4, (0, 1))[0] / 20_000 == pytest.approx([0.25] * 4, abs=0.02)


def test_each_section_is_brighter_or_darker_by_itself() -> None:
    crops, made = tissue(shape=(40, 8, 6)), drawn(alone(section_brightness=0.2))
    before = crops.clone()
    changed = SectionBrightness.apply(crops, made, (40, 4, 4)) - crops
    assert torch.equal(crops, before)
    for one, record in zip(changed[:, 0], made, strict=True):
        of_section = one.mean(dim=(1, 2))
        torch.testing.assert_close(one, of_section[:, None, None].expand_as(one))
        most = of_section.abs().max().item()
        assert 0.8 * record.section_brightness < most <= record.section_brightness <= 0.2
        assert abs(np.corrcoef(of_section[1:], of_section[:-1])[0, 1]) < 0.6
    assert made[0].describe() == f"brightness of sections ±{made[0].section_brightness:.2f}"


def test_brightness_of_sections_counts_in_spreads_too() -> None:
    key: dict[str, Any] = {"seed": 1, "epoch": 1, "synapses": [0], "view": 1}
    ((absolute,),) = draw(alone(section_brightness=0.2), **key)
    config = alone(section_brightness=0.2, grey_unit="spread")
    ((counted,),) = draw(config, **key, spreads=[0.5])
    assert counted.section_brightness == pytest.approx(absolute.section_brightness / 2)


def test_some_sections_are_blurred_by_nm_as_by_scipy() -> None:
    crops, size = tissue(shape=(30, 20, 24)), (40, 8, 4)
    made = [SectionBlur(0.3, nm, seed) for seed, nm in enumerate((0.0, 4.0, 12.0, 20.0))]
    results, counts = SectionBlur.apply(crops, made, size).numpy()[:, 0], []
    for crop, result, one in zip(crops.double().numpy()[:, 0], results, made, strict=True):
        sigma = (one.section_blur_nm / 8, one.section_blur_nm / 4)
        reference = np.array([ndi.gaussian_filter(section, sigma) for section in crop])
        is_blurred = section_numbers([one.section_blur_seed], 30, 1)[0, :, 0] < 0.3
        counts.append(is_blurred.sum())
        expected = np.where(is_blurred[:, None, None], reference, crop)
        np.testing.assert_allclose(result, expected, atol=1e-6)
    assert 0.15 < np.mean(counts) / 30 < 0.45
    assert made[2].describe() == "30 % of sections blurred by 12.0 nm"


def test_lost_sections_are_black() -> None:
    crops = tissue(shape=(30, 4, 4)) + 0.1
    made = drawn(alone(lost_section_prob=0.2))
    lost = LostSections.apply(crops, made, (40, 4, 4))
    is_lost = (lost == 0).all(dim=(1, 3, 4))
    expected = torch.where(is_lost[:, None, :, None, None], 0, crops)
    assert torch.equal(lost, expected)
    assert is_lost.float().mean() == pytest.approx(0.2, abs=0.1)
    assert made[0].describe() == "20 % of sections lost"


def test_slipped_sections_move_by_whole_voxels_within_their_range() -> None:
    crops, size = tissue(shape=(40, 20, 24)), (40, 8, 4)
    made = [SlippedSections(0.3, 30.0, seed) for seed in range(4)]
    results, moves = SlippedSections.apply(crops, made, size).numpy()[:, 0], []
    for crop, result, one in zip(crops.numpy()[:, 0], results, made, strict=True):
        for section, moved, numbers in zip(
            crop, result, section_numbers([one.slip_seed], 40, 3)[0], strict=True
        ):
            move = np.trunc((2 * numbers[1:] - 1) * 30 / [8, 4]).astype(int)
            move = move if numbers[0] < 0.3 else np.zeros(2, int)
            moves.append(move)
            reference = ndi.shift(section.astype(float), -move, order=0, mode="reflect")
            np.testing.assert_array_equal(moved, reference.astype(np.float32))
    slipped = [move for move in moves if move.any()]
    assert 0.2 < len(slipped) / len(moves) < 0.4
    assert (np.abs(slipped).max(axis=0) == [3, 7]).all()
    assert made[0].describe() == "30 % of sections slipped by up to 30 nm"


def test_slips_have_tissue_to_move_in_and_are_cut_with_context() -> None:
    config = alone(slip_prob=0.1, slip_range=30)
    assert context_shape(SHAPE, config, (40, 8, 4)) == (12 + 2, 16 + 2 * 5, 14 + 2 * 9)
    assert context_settings(config) == ["slip_prob"]
    with pytest.raises(InputError, match="slip_range counts in nm"):
        check_voxel_size(config, None, "a.tif")


def test_sections_are_changed_in_the_volume_before_views_are_turned() -> None:
    config = alone(section_brightness=0.3, uniform_rotation=True)
    made = draw(config, seed=1, epoch=1, synapses=range(4), view=1)
    crops = tissue(shape=context_shape(SHAPE, config))
    shifted = SectionBrightness.apply(crops, [one for one, _ in made], (1, 1, 1))
    expected = apply(shifted, [(turn,) for _, turn in made], SHAPE)
    torch.testing.assert_close(apply(crops, made, SHAPE), expected)


def test_a_step_counts_the_crops_whose_sections_are_changed() -> None:
    assert changes_sections(alone(lost_section_prob=0.1))
    assert not changes_sections(AugmentationConfig(shift_range=20, cutout_prob=1))

"""Synapses that validate lie at an end of each volume, apart from those that train."""

from collections.abc import Sequence
from dataclasses import astuple
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_synapse_cl.augmentations.transforms import context_shape
from napari_synapse_cl.config import Config
from napari_synapse_cl.data.crops.cache import fill_cache
from napari_synapse_cl.data.dataset import Dataset
from napari_synapse_cl.data.opening import open_dataset
from napari_synapse_cl.data.parts import Positions
from napari_synapse_cl.data.split import Split, overlapping, split_by_space, split_of

CUBES = (1.0, 1.0, 1.0)
ONE_VOXEL = (1, 1, 1)
Extent = tuple[int, int, int]


def somewhere(n: int, shape: Sequence[int] = (50, 400, 100), seed: int = 0) -> Positions:
    voxels = np.random.default_rng(seed).integers(0, shape, (n, 3))
    return Positions(voxels, np.arange(n), 0)


def along_x(*places: int) -> Positions:
    voxels = np.array([(0, 0, x) for x in places])
    return Positions(voxels, np.arange(len(places)), 0)


def overlapping_validation(
    positions: Positions, split: Split, extents: Sequence[Extent]
) -> list[int]:
    """Those that do not validate and share a voxel with a crop that does, by comparing them all."""
    volumes = np.zeros(len(positions.voxels), int)
    if positions.volumes is not None:
        volumes = positions.volumes

    def overlap(i: int, j: int) -> bool:
        apart = np.abs(positions.voxels[i] - positions.voxels[j])
        return volumes[i] == volumes[j] and (apart < extents[volumes[i]]).all()

    others = np.setdiff1d(np.flatnonzero(positions.is_first), split.validation)
    return [int(i) for i in others if any(overlap(i, j) for j in split.validation)]


class TestHoldingOut:
    def test_one_end_of_the_longest_axis_is_held_out(self) -> None:
        positions = somewhere(50)
        split = split_by_space(positions, 0.2, [CUBES], [ONE_VOXEL])
        assert len(split.validation) == 10
        y = positions.voxels[:, 1]
        assert y[split.training].max() <= y[split.validation].min()
        assert sorted([*split.training, *split.validation]) == list(range(50))

    def test_the_longest_axis_is_that_in_physical_space(self) -> None:
        positions = somewhere(50)
        split = split_by_space(positions, 0.2, [(100, 1, 1)], [ONE_VOXEL])
        z = positions.voxels[:, 0]
        assert z[split.training].max() <= z[split.validation].min()

    @pytest.mark.parametrize(("n", "expected"), [(2, 0), (5, 0), (6, 2), (10, 2), (30, 3)])
    def test_at_least_two_validate_or_none(self, n: int, expected: int) -> None:
        split = split_by_space(somewhere(n), 0.1, [CUBES], [ONE_VOXEL])
        assert len(split.validation) == expected

    @pytest.mark.parametrize(("most", "expected"), [(None, 20), (20, 20), (8, 8), (1, 2)])
    def test_no_more_are_held_out_than_there_may_be(self, most: int | None, expected: int) -> None:
        split = split_by_space(somewhere(100), 0.2, [CUBES], [ONE_VOXEL], most)
        assert len(split.validation) == expected
        assert len(split.training) == 100 - expected

    def test_each_volume_holds_out_its_share(self) -> None:
        volumes = np.repeat([0, 1, 2], [40, 20, 10])
        positions = somewhere(70)._replace(volumes=volumes)
        split = split_by_space(positions, 0.2, [CUBES] * 3, [ONE_VOXEL] * 3)
        assert np.bincount(volumes[split.validation]).tolist() == [8, 4, 2]

    def test_a_volume_without_synapses_is_no_obstacle(self) -> None:
        positions = somewhere(20)._replace(volumes=np.full(20, 1))
        split = split_by_space(positions, 0.1, [CUBES] * 2, [ONE_VOXEL] * 2)
        assert (len(split.training), len(split.validation)) == (18, 2)

    def test_the_end_that_costs_the_fewest_is_held_out(self) -> None:
        # One is lost beside the far end, and none beside the near one.
        positions = along_x(0, 10, 40, 50, 60, 70, 80, 90, 100)
        split = split_by_space(positions, 0.2, [CUBES], [(5, 5, 15)])
        assert (split.validation.tolist(), split.left_out.tolist()) == ([0, 1], [])

    def test_an_axis_that_is_not_the_longest_is_cut_where_that_costs_fewer(self) -> None:
        # Two layers along z, of which the upper one is small, and rows along x without a gap.
        lower, upper = along_x(*range(0, 100, 5)), along_x(40, 45)
        voxels = np.concatenate([lower.voxels, upper.voxels + np.array([60, 0, 0])])
        positions = Positions(voxels, np.arange(22), 0)
        split = split_by_space(positions, 0.1, [CUBES], [(20, 20, 20)])
        assert (split.validation.tolist(), split.left_out.tolist()) == ([20, 21], [])

    def test_it_does_not_depend_on_the_order_of_the_table(self) -> None:
        positions = somewhere(60, (10_000, 20_000, 10_000))
        shuffled = np.random.default_rng(1).permutation(60)
        again = positions._replace(voxels=positions.voxels[shuffled])
        extent = (4000, 4000, 4000)
        first = split_by_space(positions, 0.1, [CUBES], [extent])
        second = split_by_space(again, 0.1, [CUBES], [extent])
        assert len(first.left_out) > 0
        for one, other in zip(astuple(first), astuple(second), strict=True):
            assert one.tolist() == sorted(shuffled[other].tolist())


class TestApart:
    @given(
        n=st.integers(2, 40),
        seed=st.integers(0, 1000),
        fraction=st.sampled_from([0.1, 0.3, 0.5]),
        extents=st.lists(st.tuples(*[st.integers(1, 20)] * 3), min_size=1, max_size=3),
    )
    @settings(max_examples=150, deadline=None)
    def test_no_crop_of_the_training_shares_a_voxel_with_one_of_the_validation(
        self, n: int, seed: int, fraction: float, extents: list[Extent]
    ) -> None:
        generator = np.random.default_rng(seed)
        volumes = generator.integers(0, len(extents), n)
        positions = somewhere(n, (20, 40, 60), seed)._replace(volumes=volumes)
        split = split_by_space(positions, fraction, [(3.0, 2.0, 1.0)] * len(extents), extents)
        near = overlapping_validation(positions, split, extents)
        together = [*split.training, *split.validation, *split.left_out]
        assert sorted(together) == np.flatnonzero(positions.is_first).tolist()
        if split.overlapping:
            assert not len(split.left_out)
            assert split.sharing.tolist() == near
            n_left = len(split.training) - len(near)
            assert n_left < 4 or n_left < len(split.training) / 2
        else:
            assert split.left_out.tolist() == near
            assert not len(near) or len(split.training) >= max(4, len(near))

    @pytest.mark.parametrize("extent", [(118, 120, 118), (7, 11, 13), (49, 1, 98), (3, 9999, 5)])
    @pytest.mark.parametrize("start", [0, 1_234_567])
    def test_crops_that_only_touch_share_no_voxel(self, extent: Extent, start: int) -> None:
        others = np.full((1, 3), start)
        corners = np.array(list(product((-1, 1), repeat=3)))
        inside = start + corners * (np.array(extent) - 1)
        assert overlapping(inside, others, extent).all()
        for axis in range(3):
            touching = inside + corners * (np.arange(3) == axis)
            assert not overlapping(touching, others, extent).any()

    def test_crops_of_different_volumes_do_not_overlap(self) -> None:
        voxels = np.concatenate([along_x(*range(0, 120, 20)).voxels] * 2)
        positions = Positions(voxels, np.arange(12), 0, np.repeat([0, 1], 6))
        split = split_by_space(positions, 0.15, [CUBES] * 2, [(15, 15, 15)] * 2)
        assert split.validation.tolist() == [5, 11]
        assert not len(split.left_out)

    @pytest.mark.parametrize(
        ("extent", "n_sharing"),
        # Of ten that could train five are lost, then six.
        [((1, 1, 51), 0), ((1, 1, 61), 6)],
    )
    def test_no_more_than_half_are_given_up(self, extent: Extent, n_sharing: int) -> None:
        split = split_by_space(along_x(*range(0, 120, 10)), 0.1, [CUBES], [extent])
        assert split.overlapping == n_sharing
        assert len(split.training) + len(split.left_out) == 10

    def test_four_are_always_left_to_train_on(self) -> None:
        split = split_by_space(along_x(*range(0, 70, 10)), 0.1, [CUBES], [(1, 1, 21)])
        # Three of five would be more than half.
        assert (split.training.tolist(), split.validation.tolist()) == ([0, 1, 2, 3, 4], [5, 6])
        assert split.sharing.tolist() == [3, 4]


class TestWithout:
    split = Split(np.arange(6), np.array([8, 9]), left_out=np.array([6, 7]))

    def test_what_cannot_be_used_is_in_no_part(self) -> None:
        parts = self.split.without(np.array([0, 7]))
        assert [part.tolist() for part in astuple(parts)] == [[1, 2, 3, 4, 5], [8, 9], [6], [], []]
        sharing = Split(np.arange(8), np.array([8, 9]), sharing=np.array([6, 7]))
        assert sharing.without(np.array([0, 7])).overlapping == 1

    def test_where_nothing_validates_any_more_none_are_left_out_for_it(self) -> None:
        parts = self.split.without(np.array([0, 7, 9]))
        assert [part.tolist() for part in astuple(parts)] == [[1, 2, 3, 4, 5, 6], [], [], [], []]
        sharing = Split(np.arange(8), np.array([8, 9]), sharing=np.array([6, 7]))
        assert sharing.without(np.array([9])).overlapping == 0


class TestCropsAsTheyAreCut:
    @pytest.fixture
    def made(self, tmp_path: Path) -> dict[str, Any]:
        """Settings of a thin volume of noise, with a third synapse near the two at either end."""
        noise = np.random.default_rng(0).integers(0, 255, (8, 8, 2000), dtype=np.uint8)
        np.save(tmp_path / "v.npy", noise)
        places = [100, 110, 140, *range(500, 1600, 100), 1860, 1890, 1900]
        table = pd.DataFrame({"z": 4, "y": 4, "x": places})
        table.to_csv(tmp_path / "t.csv", index=False)
        named = {"image": tmp_path / "v.npy", "synapses": tmp_path / "t.csv", "voxel_size": 10}
        return {**named, "crop_size": 16, "rotation_range": 0}

    @staticmethod
    def opened(settings: dict[str, Any]) -> tuple[Dataset, Config]:
        config = Config.from_values(settings)
        return open_dataset(config), config

    @pytest.mark.parametrize(
        ("more", "left_out"),
        [
            ({}, []),
            # Voxels of a crop are two of the image each.
            ({"network_voxel_size": 20}, [14]),
            # What a rotation needs around the view counts.
            ({"crop_size": 26}, []),
            ({"crop_size": 26, "rotation_range": 15}, [14]),
        ],
    )
    def test_they_are_as_large_as_what_is_cut_from_the_image(
        self, more: dict[str, Any], left_out: list[int], made: dict[str, Any]
    ) -> None:
        assert split_of(*self.opened({**made, **more})).left_out.tolist() == left_out

    def test_those_that_were_cut_before_are_divided_as_they_would_be_now(
        self, made: dict[str, Any], tmp_path: Path
    ) -> None:
        wanted = {**made, "network_voxel_size": 20}
        dataset, config = self.opened(wanted)
        # Larger than needed.
        source = dataset.streamed(config, context_shape((24, 24, 24), config))
        list(fill_cache(source, tmp_path / "crops", len(dataset.table)))
        crops = {**wanted, "image": None, "voxel_size": None, "crops": tmp_path / "crops"}
        before, now = split_of(*self.opened(crops)), split_of(dataset, config)
        for one, other in zip(astuple(before), astuple(now), strict=True):
            assert one.tolist() == other.tolist()
        assert now.left_out.tolist() == [14]


@pytest.mark.real_data
@pytest.mark.parametrize("side", [32, 48, 80])
@pytest.mark.parametrize("name", ["training_sample1", "training_sample2", "validation_z000-259"])
def test_synapses_of_the_medulla_are_told_apart(name: str, side: int, medulla: Path) -> None:
    config = Config.from_values(
        {
            "image": medulla / f"{name}.tif",
            "synapses": medulla / f"{name}_sites.csv",
            "voxel_size": 10,
            "crop_size": side,
        }
    )
    dataset = open_dataset(config)
    split = split_of(dataset, config)
    extent = context_shape(config.crop_size, config)
    near = overlapping_validation(dataset.positions, split, [extent])
    assert near
    assert near in (split.left_out.tolist(), split.sharing.tolist())
    assert len(split.validation) == round(0.1 * len(dataset.positions.voxels))

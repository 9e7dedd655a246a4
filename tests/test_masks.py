"""What is kept of a crop: parts by name, the component nearest the synapse, and what is around."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from napari_synapse_cl.data.crops.masks import (
    blend,
    grow,
    keep_mask,
    nearest_component,
    presynaptic_side,
)
from napari_synapse_cl.data.crops.recipes import PRESETS, Recipe
from napari_synapse_cl.errors import InputError

SHAPE = (12, 16, 40)
CENTRE = (6, 8, 20)
SIZE = (8.0, 8.0, 8.0)
ROLES = {"vesicles": (6,), "cleft": (7, 8), "mitochondria": (5,), "ribbon": (3,)}
SIDES = {"side_1": 11, "side_2": 22}
Boxes = Mapping[str, tuple[slice, slice, slice]]

NEAR: Boxes = {
    "vesicles": np.s_[4:8, 6:10, 12:16],
    "cleft": np.s_[4:8, 5:11, 19:21],
    "mitochondria": np.s_[8:11, 2:5, 3:8],
}
FAR: Boxes = {
    "vesicles": np.s_[2:10, 1:15, 30:39],
    "cleft": np.s_[0:2, 0:2, 38:40],
    "mitochondria": np.s_[1:4, 10:14, 0:2],
}
CELLS: Boxes = {"side_1": np.s_[:, :, :18], "side_2": np.s_[:, :, 22:]}


def inside(*boxes: tuple[slice, slice, slice]) -> np.ndarray:
    mask = np.zeros(SHAPE, bool)
    for box in boxes:
        mask[box] = True
    return mask


KEPT = {
    "everything": np.ones(SHAPE, bool),
    "presynapse": inside(CELLS["side_1"]),
    "postsynapse": inside(CELLS["side_2"]),
    "sides": inside(*CELLS.values()),
    "vesicles+cleft": inside(NEAR["vesicles"], NEAR["cleft"]),
    "vesicles+cleft+sides": inside(NEAR["cleft"], *CELLS.values()),
    "vesicles": inside(NEAR["vesicles"]),
    "cleft": inside(NEAR["cleft"]),
    "mitochondria": inside(NEAR["mitochondria"]),
    "cleft+presynapse": inside(NEAR["cleft"], CELLS["side_1"]),
}
"""What each preset keeps of the scene below."""


@pytest.fixture
def segmentation() -> np.ndarray:
    """Two cells, and a gap of nothing between them."""
    volume = np.zeros(SHAPE, np.uint64)
    volume[CELLS["side_1"]], volume[CELLS["side_2"]] = 11, 22
    return volume


@pytest.fixture
def labels() -> np.ndarray:
    """Structures near the synapse, and larger ones of the same kinds farther off."""
    volume = np.zeros(SHAPE, np.uint8)
    for boxes in (NEAR, FAR):
        for role, box in boxes.items():
            volume[box] = ROLES[role][-1]
    volume[4:8, 5:8, 19:21] = 7
    return volume


def recipe(keep: str, nearest: bool = True, grow_nm: float = 0.0, **roles: tuple) -> Recipe:
    return Recipe.parse(keep, {**ROLES, **roles}, nearest, grow_nm)


def kept(
    keep: str | Recipe,
    labels: np.ndarray | None,
    segmentation: np.ndarray | None,
    objects: Mapping[str, int] = SIDES,
    centre: tuple[int, int, int] = CENTRE,
) -> np.ndarray:
    chosen = recipe(keep) if isinstance(keep, str) else keep
    return keep_mask(labels, segmentation, chosen, centre, objects, SIZE)


class TestRecipes:
    @pytest.mark.parametrize(
        ("keep", "parts"),
        [
            ("everything", ["everything"]),
            ("vesicles+cleft", ["vesicles", "cleft"]),
            (" Cleft + Presynapse ", ["cleft", "presynapse"]),
            ("sides+cleft", ["presynapse", "postsynapse", "cleft"]),
            ("12+15", ["12", "15"]),
            ("cleft+cleft+7", ["cleft", "7"]),
            ("ribbon", ["ribbon"]),
        ],
    )
    def test_parts_are_joined_by_plus(self, keep: str, parts: list) -> None:
        assert list(recipe(keep).parts) == parts

    @pytest.mark.parametrize("name", PRESETS)
    def test_a_preset_is_chosen_by_its_name(self, name: str) -> None:
        assert recipe(name).parts == PRESETS[name]

    @pytest.mark.parametrize(
        ("keep", "message"),
        [
            ("vesicle", r'no part "vesicle" .*everything, presynapse.*object, sides, ribbon'),
            ("cleft+", 'no part "" '),
            ("-3", 'no part "-3" '),
            ("cleft+0", "0 is the background"),
        ],
    )
    def test_a_part_that_does_not_exist_is_refused_with_those_that_do(
        self, keep: str, message: str
    ) -> None:
        with pytest.raises(InputError, match=message):
            recipe(keep) if "+" in keep else Recipe.parse(keep, {"Ribbon": [3]}, True, 0)

    @pytest.mark.parametrize("part", ["vesicles", "cleft", "mitochondria"])
    def test_a_structure_whose_label_values_are_not_known_asks_for_them(self, part: str) -> None:
        with pytest.raises(InputError, match=f"roles {part}=6"):
            Recipe.parse(part, {part: ()}, True, 0)

    @pytest.mark.parametrize(
        ("keep", "needed"),
        [
            ("everything", (False, False, False)),
            ("cleft+everything+presynapse", (False, False, False)),
            ("cleft", (True, False, False)),
            ("12", (True, False, False)),
            ("presynapse", (False, True, False)),
            ("cleft+presynapse", (True, True, False)),
            ("object", (False, False, True)),
        ],
    )
    def test_it_says_which_label_volumes_it_needs(self, keep: str, needed: tuple) -> None:
        chosen = recipe(keep)
        assert (chosen.needs_labels, chosen.needs_segmentation, chosen.needs_either) == needed
        chosen.check_volumes("em.tif", has_labels=True, has_segmentation=True)
        if any(needed):
            with pytest.raises(InputError, match=r"of em\.tif, a label volume"):
                chosen.check_volumes("em.tif", has_labels=False, has_segmentation=False)

    def test_cells_with_label_values_need_no_segmentation(self) -> None:
        chosen = recipe("sides", presynapse=(1,), postsynapse=(2,))
        assert (chosen.needs_labels, chosen.needs_segmentation) == (True, False)

    def test_a_cell_needs_a_position_in_it_or_in_both_cells(self) -> None:
        presynapse = recipe("presynapse")
        presynapse.check_partners({"presynapse"}, has_labels=False)
        presynapse.check_partners({"side_1", "side_2"}, has_labels=True)
        for partners in ([], ["postsynapse"], ["side_1"]):
            with pytest.raises(InputError, match=r"positions in the presynapse, or in both cells"):
                presynapse.check_partners(partners, has_labels=True)

    def test_vesicles_are_needed_to_tell_one_side_from_the_other_alone(self) -> None:
        without = Recipe.parse("presynapse", {}, True, 0)
        for chosen, has_labels in [(without, True), (recipe("presynapse"), False)]:
            with pytest.raises(InputError, match="roles vesicles=6"):
                chosen.check_partners(SIDES, has_labels)
        Recipe.parse("sides", {}, True, 0).check_partners(SIDES, has_labels=False)


class TestKeeping:
    @pytest.mark.parametrize("name", PRESETS)
    def test_each_preset(self, name: str, labels: np.ndarray, segmentation: np.ndarray) -> None:
        np.testing.assert_array_equal(kept(name, labels, segmentation), KEPT[name])

    @pytest.mark.parametrize("role", NEAR)
    def test_structures_farther_off_are_kept_too_unless_the_nearest_is_asked_for(
        self, role: str, labels: np.ndarray
    ) -> None:
        found = kept(recipe(role, nearest=False), labels, None)
        np.testing.assert_array_equal(found, inside(NEAR[role], FAR[role]))

    def test_label_values_are_kept_by_number(self, labels: np.ndarray) -> None:
        found = kept(recipe("7+5", nearest=False), labels, None)
        np.testing.assert_array_equal(found, (labels == 7) | (labels == 5))
        assert not kept("999", labels, None).any()

    def test_known_cells_need_no_vesicles(self, segmentation: np.ndarray) -> None:
        known = {"presynapse": 22, "postsynapse": 11}
        found = kept(Recipe.parse("presynapse", {}, True, 0), None, segmentation, known)
        np.testing.assert_array_equal(found, inside(CELLS["side_2"]))

    def test_cells_with_label_values_are_taken_from_the_labels(
        self, labels: np.ndarray, segmentation: np.ndarray
    ) -> None:
        found = kept(recipe("presynapse", presynapse=(7,)), labels, segmentation)
        np.testing.assert_array_equal(found, labels == 7)

    def test_a_position_on_nothing_keeps_nothing(
        self, labels: np.ndarray, segmentation: np.ndarray
    ) -> None:
        assert not kept("presynapse", None, segmentation, {"presynapse": 0}).any()
        found = kept("sides", labels, segmentation, {"side_1": 0, "side_2": 22})
        np.testing.assert_array_equal(found, inside(CELLS["side_2"]))

    def test_missing_positions_are_told_of(self, segmentation: np.ndarray) -> None:
        with pytest.raises(InputError, match="positions in the presynapse"):
            kept("presynapse", None, segmentation, {})

    def test_the_object_is_the_cell_under_the_synapse_or_without_cells_the_structure(
        self, labels: np.ndarray, segmentation: np.ndarray
    ) -> None:
        on_vesicles = (6, 8, 14)
        found = kept("object", labels, segmentation, centre=on_vesicles)
        np.testing.assert_array_equal(found, inside(CELLS["side_1"]))
        found = kept("object", labels, None, centre=on_vesicles)
        np.testing.assert_array_equal(found, inside(NEAR["vesicles"]))
        found = kept(recipe("object", nearest=False), labels, None, centre=on_vesicles)
        np.testing.assert_array_equal(found, inside(NEAR["vesicles"], FAR["vesicles"]))
        assert not kept("object", labels, segmentation, centre=CENTRE).any()

    def test_a_cell_that_enters_the_crop_twice_is_kept_whole(
        self, segmentation: np.ndarray
    ) -> None:
        segmentation[:, :, 36:] = 11
        found = kept("object", None, segmentation, centre=(6, 8, 2))
        np.testing.assert_array_equal(found, inside(CELLS["side_1"], np.s_[:, :, 36:]))

    def test_what_is_around_is_kept_too(self, labels: np.ndarray) -> None:
        found = kept(recipe("vesicles", grow_nm=8), labels, None)
        around = inside(np.s_[3:9, 6:10, 12:16], np.s_[4:8, 5:11, 12:16], np.s_[4:8, 6:10, 11:17])
        np.testing.assert_array_equal(found, around)

    @pytest.mark.real_data
    def test_the_body_under_a_synapse_of_a_real_volume(self, medulla: Path) -> None:
        bodies = tifffile.imread(medulla / "training_sample2_groundtruth_bodies.tif")
        table = pd.read_csv(medulla / "training_sample2_sites.csv")
        for z, y, x in table[["z", "y", "x"]].to_numpy()[:20]:
            start = np.clip([z - 20, y - 20, x - 20], 0, np.array(bodies.shape) - 40)
            crop = bodies[tuple(slice(a, a + 40) for a in start)]
            centre = tuple((np.array([z, y, x]) - start).tolist())
            mask = kept("object", None, crop, centre=centre)
            if bodies[z, y, x]:
                assert mask[centre]
                assert np.unique(crop[mask]).tolist() == [bodies[z, y, x]]
            assert mask.mean() < 0.95


class TestSides:
    def side(self, labels: np.ndarray, segmentation: np.ndarray, **objects: int) -> str:
        chosen = recipe("presynapse", nearest=False)
        return presynaptic_side(labels, segmentation, chosen, CENTRE, {**SIDES, **objects}, SIZE)

    def test_the_presynaptic_side_holds_more_of_the_vesicles_nearest_the_synapse(
        self, labels: np.ndarray, segmentation: np.ndarray
    ) -> None:
        assert self.side(labels, segmentation) == "side_1"
        assert self.side(labels, segmentation, side_1=22, side_2=11) == "side_2"
        labels[NEAR["vesicles"]] = 0
        assert self.side(labels, segmentation) == "side_2"

    def test_a_position_on_nothing_is_not_the_presynaptic_side(
        self, labels: np.ndarray, segmentation: np.ndarray
    ) -> None:
        segmentation[segmentation == 11] = 0
        assert self.side(labels, segmentation, side_1=0) == "side_2"

    def test_without_vesicles_it_is_the_second(
        self, labels: np.ndarray, segmentation: np.ndarray
    ) -> None:
        assert self.side(np.zeros_like(labels), segmentation) == "side_2"

    def test_without_knowing_what_vesicles_are_it_cannot_be_told(
        self, labels: np.ndarray, segmentation: np.ndarray
    ) -> None:
        chosen = Recipe.parse("presynapse", {}, True, 0)
        with pytest.raises(InputError, match="roles vesicles=6"):
            presynaptic_side(labels, segmentation, chosen, CENTRE, SIDES, SIZE)


def random_mask(seed: int, shape: tuple, share: float) -> np.ndarray:
    return np.random.default_rng(seed).random(shape) < share


def distances(mask: np.ndarray, voxel: np.ndarray, size: tuple) -> np.ndarray:
    """Distances of some voxels from all of a mask, one by one."""
    return cdist(np.atleast_2d(voxel) * np.array(size), np.argwhere(mask) * np.array(size))


sizes = st.tuples(*[st.sampled_from([4.0, 8.0, 8.3, 40.0, 0.1])] * 3)


class TestNearestComponent:
    @settings(max_examples=30, deadline=None)
    @given(
        seed=st.integers(0, 1000),
        share=st.floats(0.02, 0.4),
        size=sizes,
        centre=st.tuples(st.integers(0, 6), st.integers(0, 7), st.integers(0, 8)),
    )
    def test_it_is_what_is_reached_from_the_nearest_voxel_over_faces(
        self, seed: int, share: float, size: tuple, centre: tuple
    ) -> None:
        mask = random_mask(seed, (7, 8, 9), share)
        mask[0, 0, 0] = True
        found = nearest_component(mask, centre, size)
        own, others = np.argwhere(found), np.argwhere(mask & ~found)
        nearest = distances(mask, np.array(centre), size).min()
        assert distances(found, np.array(centre), size).min() == pytest.approx(nearest)
        reached, todo = {tuple(own[0])}, [own[0]]
        while todo:
            voxel = todo.pop()
            for other in own[np.abs(own - voxel).sum(axis=1) == 1]:
                if tuple(other) not in reached:
                    reached.add(tuple(other))
                    todo.append(other)
        assert len(reached) == len(own)
        assert not len(others) or cdist(own, others, "cityblock").min() > 1

    def test_long_voxels_count_as_long_as_they_are(self) -> None:
        mask = np.zeros((5, 5, 20), bool)
        mask[3, 2, 2] = mask[2, 2, 6] = True
        near_in_voxels = nearest_component(mask, (2, 2, 2), (8, 8, 8))
        near_in_nm = nearest_component(mask, (2, 2, 2), (40, 8, 8))
        assert np.argwhere(near_in_voxels).tolist() == [[3, 2, 2]]
        assert np.argwhere(near_in_nm).tolist() == [[2, 2, 6]]

    def test_nothing_stays_nothing(self) -> None:
        assert not nearest_component(np.zeros((4, 5, 6), bool), (2, 2, 2), SIZE).any()


class TestGrowing:
    @settings(max_examples=30, deadline=None)
    @given(
        seed=st.integers(0, 1000),
        share=st.floats(0.005, 0.2),
        size=sizes,
        voxels=st.floats(0, 12),
    )
    def test_it_is_all_that_lies_within_the_distance(
        self, seed: int, share: float, size: tuple, voxels: float
    ) -> None:
        mask = random_mask(seed, (7, 9, 11), share)
        mask[3, 4, 5] = True
        nm = voxels * min(size)
        all_voxels = np.argwhere(np.ones_like(mask))
        nearest = distances(mask, all_voxels, size).min(axis=1)
        expected = (nearest <= nm * (1 + 1e-6)).reshape(mask.shape)
        np.testing.assert_array_equal(grow(mask, nm, size), expected)

    @pytest.mark.parametrize(("size", "nm"), [(0.1, 0.3), (0.7, 2.1), (8.0, 24.0), (8.1, 24.3)])
    def test_a_length_of_whole_voxels_reaches_the_last_of_them(
        self, size: float, nm: float
    ) -> None:
        mask = np.zeros((9, 1, 9), bool)
        mask[4, 0, 4] = True
        grown = grow(mask, nm, (size, size, size))
        assert np.flatnonzero(grown[4, 0]).tolist() == [1, 2, 3, 4, 5, 6, 7]
        assert np.flatnonzero(grown[:, 0, 4]).tolist() == [1, 2, 3, 4, 5, 6, 7]

    def test_nothing_grows_into_nothing(self) -> None:
        assert not grow(np.zeros((4, 5, 6), bool), 100, SIZE).any()


class TestBlending:
    @pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint32, np.float32, np.float64])
    def test_what_is_kept_stays_and_the_rest_becomes_grey(self, dtype: type) -> None:
        crop = (np.arange(60).reshape(3, 4, 5) + 2.0**20 * (dtype == np.uint32)).astype(dtype)
        weight = np.zeros(crop.shape, np.float32)
        weight[1] = 1
        covered = blend(crop, weight, 7, 1.0)
        assert covered.dtype == dtype
        np.testing.assert_array_equal(covered[1], crop[1])
        assert (covered[[0, 2]] == 7).all()

    def test_grey_values_of_many_digits_are_kept_to_the_last(self) -> None:
        crop = np.array([[[2**24 + 1, 2**31 + 1]]], np.uint32)
        np.testing.assert_array_equal(blend(crop, np.ones((1, 1, 2), np.float32), 0, 1.0), crop)

    def test_it_shines_through_by_what_alpha_leaves(self) -> None:
        crop, weight = np.full((1, 1, 3), 200, np.uint8), np.array([[[0, 0.5, 1]]], np.float32)
        assert blend(crop, weight, 100, 0.5).ravel().tolist() == [150, 175, 200]
        assert blend(crop, weight, 100, 0.0).ravel().tolist() == [200, 200, 200]
        assert blend(crop, weight, 101, 0.25).ravel().tolist() == [175, 188, 200]

    @settings(max_examples=30, deadline=None)
    @given(
        seed=st.integers(0, 1000),
        dtype=st.sampled_from([np.uint8, np.uint16, np.int16, np.float32]),
        grey=st.floats(0, 255),
        alpha=st.floats(0, 1),
    )
    def test_it_lies_between_the_crop_and_the_grey(
        self, seed: int, dtype: type, grey: float, alpha: float
    ) -> None:
        rng = np.random.default_rng(seed)
        crop = rng.integers(0, 256, (4, 5, 6)).astype(dtype)
        blended = blend(crop, rng.random((4, 5, 6), dtype=np.float32), grey, alpha).astype(float)
        room = 1e-4 if dtype is np.float32 else 0.5
        assert (blended >= np.minimum(crop, grey) - room).all()
        assert (blended <= np.maximum(crop, grey) + room).all()

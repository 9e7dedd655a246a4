"""Where the elements of feature maps lie, what must be read for them, and how it is divided."""

from itertools import product
from math import prod

import numpy as np
import pytest

from napari_synapse_cl.errors import InputError
from napari_synapse_cl.features.maps.grid import (
    Box,
    MapGrid,
    check_region,
    halves,
    map_bytes,
    plan_tiles,
    with_halo,
)
from napari_synapse_cl.models.architecture import Architecture, downsampling_factors

ISOTROPIC = Architecture().layers
ANISOTROPIC = Architecture(downsample_factors=downsampling_factors("anisotropic", 4)).layers
UNALIGNED = Architecture((2, 4, 8), (1, 1, 2), ((2, 2, 2),) * 3).layers
"""What an element sees beside its cell is no multiple of the stride."""
SHAPE = (101, 67, 90)
REGIONS = [
    Box((0, 0, 0), SHAPE),
    Box((40, 30, 50), (41, 31, 51)),
    Box((7, 21, 30), (50, 29, 83)),
    Box((80, 0, 60), (101, 9, 90)),
]


def indices(grid: MapGrid, axis: int) -> list[int]:
    return list(range(grid.first[axis], grid.first[axis] + grid.shape[axis]))


def test_pooling_after_pooling_keeps_as_many_elements_as_one_of_the_product() -> None:
    for n in range(200):
        assert ((n // 2) // 2) // 2 == n // 8
        assert ((n // 3) // 2) // 5 == n // 30


@pytest.mark.parametrize("region", REGIONS, ids=str)
@pytest.mark.parametrize("layers", [ISOTROPIC, ANISOTROPIC], ids=["isotropic", "anisotropic"])
def test_a_grid_has_the_elements_whose_cell_meets_the_region_and_that_exist(
    layers: tuple, region: Box
) -> None:
    for layer in layers:
        grid = MapGrid.of(layer, region, SHAPE)
        for axis, (low, high) in enumerate(zip(region.start, region.stop, strict=True)):
            stride = layer.stride[axis]
            assert indices(grid, axis) == [
                i
                for i in range(SHAPE[axis] // stride)
                if set(range(i * stride, (i + 1) * stride)) & set(range(low, high))
            ]


def test_layer_20_over_a_region_from_voxel_60_begins_at_the_centre_of_the_cell_from_60() -> None:
    layer = ISOTROPIC[20]
    grid = MapGrid.of(layer, Box((60, 61, 63), (188, 188, 64)), (250, 250, 250))
    assert (grid.first, grid.shape) == ((15, 15, 15), (32, 32, 1))
    assert grid.origin == (61.5, 61.5, 61.5)
    assert map_bytes(layer, grid) == 4 * 96 * 32 * 32


def test_a_region_that_fills_no_window_at_the_far_face_has_no_element() -> None:
    region = Box((0, 0, 88), (16, 16, 90))
    assert MapGrid.over(ISOTROPIC[20], region, SHAPE).n_elements == 0
    with pytest.raises(InputError, match=r"layer 20 .* last 2 voxels along x .* window of 4"):
        MapGrid.of(ISOTROPIC[20], region, SHAPE)
    with pytest.raises(InputError, match="layer 20"):
        with_halo(region, [ISOTROPIC[0], ISOTROPIC[20]], SHAPE)


class TestRegion:
    def test_what_lies_outside_the_volume_is_left_out(self) -> None:
        assert check_region(Box((-5, 0, 80), (3, 67, 200)), SHAPE) == Box((0, 0, 80), (3, 67, 90))

    def test_a_region_outside_or_empty_is_said(self) -> None:
        with pytest.raises(InputError, match="outside the volume, which has 101 × 67 × 90 voxels"):
            check_region(Box((0, 67, 0), (10, 80, 10)), SHAPE)
        with pytest.raises(InputError, match="z, y, x = 5:5, 0:3, 0:3 is empty"):
            check_region(Box((5, 0, 0), (5, 3, 3)), SHAPE)


class TestHalo:
    @pytest.mark.parametrize("region", REGIONS, ids=str)
    @pytest.mark.parametrize("chosen", [(0,), (-4,), (2, -6, -1)], ids=str)
    @pytest.mark.parametrize(
        "layers",
        [ISOTROPIC, ANISOTROPIC, UNALIGNED],
        ids=["isotropic", "anisotropic", "unaligned"],
    )
    def test_the_box_holds_the_receptive_fields_and_the_same_elements(
        self, layers: tuple, chosen: tuple[int, ...], region: Box
    ) -> None:
        layers = [layers[i] for i in chosen]
        box = with_halo(region, layers, SHAPE)
        assert not any(low % s for low, s in zip(box.start, layers[-1].stride, strict=True))
        for layer in layers:
            grid = MapGrid.of(layer, region, SHAPE)
            for axis, n in enumerate(SHAPE):
                centres = grid.origin[axis], grid.origin[axis]
                last = centres[1] + (grid.shape[axis] - 1) * layer.stride[axis]
                half = (layer.receptive_field[axis] - 1) / 2
                assert box.start[axis] <= max(0, centres[0] - half)
                assert box.stop[axis] >= min(n, last + half + 1)
            inside = MapGrid.of(layer, region.seen_from(box.start), box.shape)
            assert inside.shape == grid.shape
            moved = [o + low for o, low in zip(inside.origin, box.start, strict=True)]
            assert tuple(moved) == grid.origin

    def test_it_is_no_larger_than_it_must_be(self) -> None:
        box = with_halo(Box((60, 60, 60), (188, 188, 188)), [ISOTROPIC[20]], (250, 250, 250))
        assert box == Box((48, 48, 48), (200, 200, 200))

    def test_it_cannot_be_taken_for_a_colour_image(self) -> None:
        for x in (0, 40, 89):
            box = with_halo(Box((0, 0, x), (50, 50, x + 1)), [ISOTROPIC[0]], SHAPE)
            assert box.shape[2] == 5


class TestTiles:
    @pytest.mark.parametrize("region", REGIONS, ids=str)
    @pytest.mark.parametrize("tile_voxels", [1, 50_000, 10**9])
    @pytest.mark.parametrize("layers", [ISOTROPIC, ANISOTROPIC], ids=["isotropic", "anisotropic"])
    def test_each_element_is_in_one_tile(
        self, layers: tuple, tile_voxels: int, region: Box
    ) -> None:
        chosen = [layers[i] for i in (0, 12, 27)]
        tiles = plan_tiles(region, chosen, SHAPE, tile_voxels)
        tiles = [half for tile in tiles for half in halves(tile, chosen, SHAPE)]
        for layer in chosen:
            whole = MapGrid.of(layer, region, SHAPE)
            times = np.zeros(whole.shape, int)
            for tile in tiles:
                times[MapGrid.over(layer, tile, SHAPE).slices_from(whole.first)] += 1
            assert (times == 1).all()

    def test_what_is_read_for_a_tile_keeps_to_the_limit(self) -> None:
        region, chosen, shape = Box((0, 0, 0), (900, 700, 800)), [ISOTROPIC[20]], (900, 700, 800)
        for limit in (10**6, 10**7):
            tiles = plan_tiles(region, chosen, shape, limit)
            read = [prod(with_halo(tile, chosen, shape).shape) for tile in tiles]
            assert max(read) <= limit
            # A limit of 10 million voxels has room for tiles that read little twice.
            assert limit < 10**7 or sum(read) < 1.6 * prod(shape)

    def test_flat_regions_are_divided_where_they_are_long(self) -> None:
        region = Box((40, 0, 0), (48, 800, 800))
        tiles = plan_tiles(region, [ISOTROPIC[20]], (900, 800, 800), 10**6)
        assert len(tiles) > 1
        assert all((tile.start[0], tile.stop[0]) == (40, 48) for tile in tiles)

    def test_a_tile_of_one_cell_cannot_be_halved(self) -> None:
        chosen = [ISOTROPIC[0], ISOTROPIC[20]]
        tile = Box((1, 4, 8), (3, 8, 12))
        assert halves(tile, chosen, SHAPE) == [tile]
        wider = Box((1, 4, 8), (3, 8, 13))
        assert halves(wider, chosen, SHAPE) == [tile, Box((1, 4, 12), (3, 8, 13))]

    def test_tiles_without_elements_are_left_out(self) -> None:
        tiles = plan_tiles(Box((0, 0, 0), SHAPE), [ISOTROPIC[33]], SHAPE, 1)
        assert {tile.start for tile in tiles} == set(
            product(*(range(0, n // 16 * 16, 16) for n in SHAPE))
        )

"""Feature maps of a region against the network run over the whole volume, and maps on the disk."""

import errno
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import zarr
from torch import Tensor, nn

from napari_synapse_cl.data.volumes import Volume, open_volume
from napari_synapse_cl.errors import InputError, JobError
from napari_synapse_cl.features.maps.colors import (
    colored,
    fit_coloring,
    principal_rgb,
    sample_elements,
)
from napari_synapse_cl.features.maps.extraction import default_tile_voxels, extract_maps
from napari_synapse_cl.features.maps.grid import (
    Box,
    MapGrid,
    MapPart,
    MapTile,
    plan_tiles,
    with_halo,
)
from napari_synapse_cl.features.maps.store import MapStore
from napari_synapse_cl.models.architecture import Architecture, Layer, downsampling_factors
from napari_synapse_cl.models.vgg3d import Vgg3D

CPU = torch.device("cpu")
SHAPE = (37, 61, 53)
"""No multiple of any stride."""
REGIONS = {
    "whole": Box((0, 0, 0), SHAPE),
    "inside": Box((9, 21, 17), (22, 42, 30)),
    "at a face": Box((0, 20, 20), (10, 40, 30)),
    "at the far corner": Box((21, 40, 37), SHAPE),
    "one voxel": Box((17, 30, 25), (18, 31, 26)),
}
ARCHITECTURES = {
    "isotropic": Architecture((2, 4, 8, 16)),
    "anisotropic": Architecture(
        (2, 4, 8, 16), (2, 2, 2, 2), downsampling_factors("anisotropic", 4)
    ),
    # What an element sees beside its cell is no multiple of the stride.
    "unaligned": Architecture((2, 4, 8), (1, 1, 2), ((2, 2, 2),) * 3),
}
CHOSEN = {
    "isotropic": (0, 2, 12, 20, 21, 33),
    "anisotropic": (0, 2, 6, 14, 15, 27),
    "unaligned": (1, 3, 7, 11, 13),
}
"""Layers of each architecture."""


def lively(architecture: Architecture) -> Vgg3D:
    """A network whose batch norms are not those of an untouched one."""
    torch.manual_seed(0)
    network = Vgg3D.from_architecture(architecture).eval()
    for module in network.features:
        if isinstance(module, nn.BatchNorm3d):
            module.running_mean.uniform_(-0.3, 0.3)
            module.running_var.uniform_(0.02, 0.3)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    return network


def plain_map(network: Vgg3D, array: np.ndarray, index: int) -> np.ndarray:
    """The map of a whole volume of bytes, by PyTorch alone."""
    raw = torch.from_numpy(array.astype(np.float32) / 255 * 2 - 1)[None, None]
    with torch.inference_mode():
        return network.features[: index + 1](raw)[0].numpy()


def tiles_of(
    network: Vgg3D, volume: Volume, region: Box, layers: list[Layer], **settings: object
) -> Iterator[MapTile]:
    chosen = {"device": CPU, "precision": "float32", "intensities": (0.0, 255.0), **settings}
    intensities = chosen.pop("intensities")
    return extract_maps(network, volume, intensities, region, layers, **chosen)


def maps_of(
    network: Vgg3D, volume: Volume, region: Box, layers: list[Layer], **settings: object
) -> dict[int, np.ndarray]:
    """Maps put together from their tiles; each element is written once."""
    grids = {layer.index: MapGrid.of(layer, region, volume.shape) for layer in layers}
    maps = {
        layer.index: np.full((layer.channels, *grids[layer.index].shape), np.nan, np.float32)
        for layer in layers
    }
    for tile in tiles_of(network, volume, region, layers, **settings):
        for index, (slices, values) in tile.parts.items():
            part = maps[index][(slice(None), *slices)]
            assert np.isnan(part).all()
            assert part.shape == values.shape
            part[:] = values
    assert not any(np.isnan(values).any() for values in maps.values())
    return maps


def assert_same(found: np.ndarray, expected: np.ndarray, scale: float | None = None) -> None:
    """Equal but for rounding, by the largest value of the map where a part of it says little."""
    scale = float(np.abs(expected).max()) if scale is None else scale
    assert scale > 0.1
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * scale)


@pytest.fixture(scope="module")
def volume() -> Volume:
    return Volume(np.random.default_rng(0).integers(0, 256, SHAPE, dtype=np.uint8))


@pytest.fixture(scope="module", params=list(ARCHITECTURES))
def known(request: pytest.FixtureRequest, volume: Volume) -> tuple:
    """A network, its layers to read, and their maps of the whole volume."""
    architecture = ARCHITECTURES[request.param]
    network = lively(architecture)
    chosen = CHOSEN[request.param]
    maps = {i: plain_map(network, volume.array, i) for i in chosen}
    return network, [architecture.layers[i] for i in chosen], maps


@pytest.fixture(scope="module")
def network() -> Vgg3D:
    return lively(ARCHITECTURES["isotropic"])


@pytest.fixture(scope="module")
def layers() -> list[Layer]:
    return list(ARCHITECTURES["isotropic"].layers)


class TestMaps:
    @pytest.mark.parametrize("tile_voxels", [30_000, None])
    @pytest.mark.parametrize("region", REGIONS.values(), ids=list(REGIONS))
    def test_a_map_of_a_region_is_that_part_of_the_whole_volumes_map(
        self, known: tuple, volume: Volume, region: Box, tile_voxels: int | None
    ) -> None:
        network, layers, whole = known
        maps = maps_of(network, volume, region, layers, tile_voxels=tile_voxels)
        for layer in layers:
            grid = MapGrid.of(layer, region, SHAPE)
            expected = whole[layer.index][(slice(None), *grid.slices_from((0, 0, 0)))]
            scale = float(np.abs(whole[layer.index]).max())
            assert_same(maps[layer.index], expected, scale)

    @pytest.mark.parametrize("region", REGIONS.values(), ids=list(REGIONS))
    def test_the_region_of_a_box_cut_out_with_its_halo_has_the_same_maps(
        self, known: tuple, volume: Volume, region: Box
    ) -> None:
        network, layers, whole = known
        for chosen in (layers, layers[:1], layers[3:4]):
            box = with_halo(region, chosen, SHAPE)
            cut = Volume(volume.array[box.slices].copy())
            maps = maps_of(network, cut, region.seen_from(box.start), chosen)
            for layer in chosen:
                grid = MapGrid.of(layer, region, SHAPE)
                expected = whole[layer.index][(slice(None), *grid.slices_from((0, 0, 0)))]
                scale = float(np.abs(whole[layer.index]).max())
                assert_same(maps[layer.index], expected, scale)

    def test_where_tiles_meet_there_is_no_seam(
        self, network: Vgg3D, layers: list[Layer], volume: Volume
    ) -> None:
        region, chosen = Box((3, 2, 1), (20, 50, 49)), [layers[12], layers[20]]
        assert plan_tiles(region, chosen, SHAPE, 30_000) != plan_tiles(
            region, chosen, SHAPE, 55_000
        )
        some = maps_of(network, volume, region, chosen, tile_voxels=30_000)
        others = maps_of(network, volume, region, chosen, tile_voxels=55_000)
        for index in (12, 20):
            assert_same(some[index], others[index])

    def test_what_lies_outside_the_volume_is_left_out(
        self, network: Vgg3D, layers: list[Layer], volume: Volume
    ) -> None:
        (tile,) = tiles_of(network, volume, Box((-9, 30, 40), (10, 70, 90)), [layers[20]])
        assert tile.parts[20].values.shape == (8, 3, 8, 3)

    def test_tiles_are_counted(self, network: Vgg3D, layers: list[Layer], volume: Volume) -> None:
        tiles = list(tiles_of(network, volume, REGIONS["inside"], [layers[20]], tile_voxels=30_000))
        assert [tile.done for tile in tiles] == list(range(1, len(tiles) + 1))
        assert {tile.total for tile in tiles} == {len(tiles)}
        assert len(tiles) > 1

    def test_intensities_are_mapped_as_for_crops(
        self, network: Vgg3D, layers: list[Layer], volume: Volume
    ) -> None:
        floating = Volume(volume.array.astype(np.float32) * 3 - 100)
        region, chosen = REGIONS["inside"], [layers[20]]
        maps = maps_of(network, floating, region, chosen, intensities=(-100.0, 665.0))
        assert_same(maps[20], maps_of(network, volume, region, chosen)[20])

    def test_reading_maps_leaves_the_network_as_it_was(
        self, network: Vgg3D, layers: list[Layer], volume: Volume
    ) -> None:
        before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        maps_of(network, volume, REGIONS["one voxel"], layers)
        assert all(torch.equal(before[n], t) for n, t in network.state_dict().items())

    def test_values_that_are_not_finite_are_said_where_features_depend_on_them(
        self, network: Vgg3D, layers: list[Layer], volume: Volume
    ) -> None:
        array = volume.array.astype(np.float32)
        array[20, 30, 40] = np.nan
        broken = Volume(array, name="cells.npy")
        with pytest.raises(InputError, match=r"cells.npy .* at z, y, x = 20, 30, 40"):
            maps_of(network, broken, Box((20, 30, 28), (24, 34, 32)), [layers[20]])
        # Layer 20 sees 12 voxels beside its cell of 4.
        maps_of(network, broken, Box((20, 30, 24), (24, 34, 28)), [layers[20]])

    @pytest.mark.parametrize("index", [20, 33])
    def test_bfloat16_maps_are_near_those_of_float32(self, volume: Volume, index: int) -> None:
        network = lively(Architecture((4, 8, 16, 32)))
        layer, region = Architecture((4, 8, 16, 32)).layers[index], REGIONS["whole"]
        exact = maps_of(network, volume, region, [layer])[index]
        fast = maps_of(network, volume, region, [layer], precision="bfloat16")[index]
        assert 0 < np.linalg.norm(fast - exact) < 0.03 * np.linalg.norm(exact)

    @pytest.mark.real_data
    def test_the_surroundings_of_a_real_synapse(self, medulla: Path) -> None:
        volume = open_volume(medulla / "training_sample1.tif")
        sites = pd.read_csv(medulla / "training_sample1_sites.csv")
        centre = sites[["z", "y", "x"]].iloc[0].to_numpy(int)
        start, stop = (centre - 12).clip(min=0), centre + 12
        region = Box(tuple(start.tolist()), tuple(stop.tolist()))
        architecture = Architecture((4, 8, 16, 32))
        network, layer = lively(architecture), architecture.layers[20]
        maps = maps_of(network, volume, region, [layer], tile_voxels=80_000)
        # A part of the volume with more around the region than layer 20 sees.
        low = (start - 40).clip(min=0) // 4 * 4
        part = volume.array[tuple(map(slice, low, stop + 40))]
        grid = MapGrid.of(layer, region, volume.shape)
        expected = plain_map(network, part, 20)[(slice(None), *grid.slices_from(low // 4))]
        assert_same(maps[20], expected)


class TestGeometry:
    @pytest.mark.parametrize(
        ("kind", "index"), [(kind, index) for kind in CHOSEN for index in CHOSEN[kind]]
    )
    def test_a_voxel_changes_the_elements_that_see_it_and_most_the_nearest(
        self, kind: str, index: int
    ) -> None:
        architecture = ARCHITECTURES[kind]
        network, layer = Vgg3D.from_architecture(architecture).eval(), architecture.layers[index]
        for module in network.features:
            if isinstance(module, nn.Conv3d):
                # All that is seen counts, and what is nearer counts more.
                nearness = torch.tensor([1.0, 2.0, 1.0])
                kernel = torch.einsum("i,j,k->ijk", nearness, nearness, nearness) / 64
                module.weight.data[:] = kernel / module.in_channels
                nn.init.zeros_(module.bias)
        voxel, region = (21, 38, 29), Box((0, 0, 0), SHAPE)
        array = np.zeros(SHAPE, np.float32)
        array[voxel] = 1
        maps = maps_of(network, Volume(array), region, [layer], intensities=(-1.0, 1.0))
        grid = MapGrid.of(layer, region, SHAPE)
        distances = [
            np.abs(origin + np.arange(n) * stride - v)
            for origin, n, stride, v in zip(
                grid.origin, grid.shape, grid.stride, voxel, strict=True
            )
        ]
        sees = [
            d <= (size - 1) / 2 for d, size in zip(distances, layer.receptive_field, strict=True)
        ]
        np.testing.assert_array_equal(
            maps[index][0] > 0, sees[0][:, None, None] & sees[1][:, None] & sees[2]
        )
        nearest = tuple(int(d.argmin()) for d in distances)
        assert maps[index][0][nearest] == maps[index][0].max()


class Greedy(nn.Module):
    """Wants more memory than there is for inputs of more than some voxels."""

    def __init__(self, module: nn.Module, limit: int) -> None:
        super().__init__()
        self.module, self.limit = module, limit

    def forward(self, values: Tensor) -> Tensor:
        if values.numel() > self.limit:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return self.module(values)


class TestMemory:
    def test_tiles_are_halved_until_memory_suffices(
        self, layers: list[Layer], volume: Volume
    ) -> None:
        network = lively(ARCHITECTURES["isotropic"])
        region, chosen = REGIONS["inside"], [layers[2], layers[20]]
        expected = maps_of(network, volume, region, chosen)
        network.features[0] = Greedy(network.features[0], 40_000)
        assert len(list(tiles_of(network, volume, region, chosen))) > 1
        for index, values in maps_of(network, volume, region, chosen).items():
            assert_same(values, expected[index])

    def test_memory_that_suffices_for_no_tile_is_said(
        self, layers: list[Layer], volume: Volume
    ) -> None:
        network = lively(ARCHITECTURES["isotropic"])
        network.features[0] = Greedy(network.features[0], 1000)
        with pytest.raises(JobError, match=r"cpu ran out of memory .* 24 × 28 × 28 voxels"):
            maps_of(network, volume, REGIONS["inside"], [layers[20]])

    def test_other_errors_of_the_network_are_not_taken_for_a_shortage(
        self, layers: list[Layer], volume: Volume
    ) -> None:
        network = lively(ARCHITECTURES["isotropic"])
        network.features[0] = nn.Conv3d(3, 2, 3)
        with pytest.raises(RuntimeError, match="channels"):
            maps_of(network, volume, REGIONS["inside"], [layers[20]])

    def test_deep_layers_have_tiles_that_outweigh_what_is_around_them(self) -> None:
        with torch.device("meta"):
            network = Vgg3D.from_architecture(Architecture((1, 1, 1, 1), (2, 2, 2, 9)))
        deepest = Architecture((1, 1, 1, 1), (2, 2, 2, 9)).layers[-1]
        assert default_tile_voxels(network, [deepest], CPU) >= (2 * deepest.receptive_field[0]) ** 3

    def test_little_free_memory_makes_small_tiles(
        self, network: Vgg3D, layers: list[Layer], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from napari_synapse_cl.features.maps import extraction
        from napari_synapse_cl.system.memory import Memory

        monkeypatch.setattr(extraction, "memory_of", lambda device: Memory(10**7, 10**9))
        voxels = default_tile_voxels(network, layers[20:21], CPU)
        # Maps of the first stage have two channels of 4 bytes.
        assert 0.1 * 10**7 < voxels * 2 * 4 < 0.5 * 10**7

    @pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the peak is told otherwise")
    def test_a_larger_region_takes_no_more_memory(self, tmp_path: Path) -> None:
        file = tmp_path / "volume.npy"
        np.lib.format.open_memmap(file, mode="w+", dtype=np.uint8, shape=(160, 160, 160))
        script = tmp_path / "job.py"
        script.write_text(JOB, encoding="utf-8")
        done = subprocess.run(
            [sys.executable, str(script), str(file)], capture_output=True, text=True, check=True
        )
        small, large = json.loads(done.stdout)
        # Untiled, the larger region takes 240 MiB more.
        assert large - small < 60


JOB = """
import json, resource, sys
from pathlib import Path
import torch
from napari_synapse_cl.data.volumes import open_volume
from napari_synapse_cl.features.maps.extraction import extract_maps
from napari_synapse_cl.features.maps.grid import Box, MapGrid
from napari_synapse_cl.features.maps.store import MapStore
from napari_synapse_cl.models.architecture import Architecture
from napari_synapse_cl.models.vgg3d import Vgg3D

torch.set_num_threads(1)
file = Path(sys.argv[1])
architecture = Architecture((2, 2, 2, 2))
network, layers = Vgg3D.from_architecture(architecture), [architecture.layers[2]]
volume, peaks = open_volume(file), []
for side in (64, 64, 128):
    region = Box((8, 8, 8), (8 + side,) * 3)
    grids = {2: MapGrid.of(layers[0], region, volume.shape)}
    tiles = extract_maps(network, volume, (0.0, 255.0), region, layers,
                         device=torch.device("cpu"), precision="float32", tile_voxels=100_000)
    path = file.with_name(f"{len(peaks)}.zarr")
    with MapStore(path, layers, grids, voxel_size=None, provenance={}) as store:
        for tile in tiles:
            store.write(tile)
        store.finish()
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10)
print(json.dumps(peaks[1:]))
"""
"""A small region twice, so that all is loaded, and a region eight times as large; peaks in MiB."""


class TestStore:
    region = Box((4, 4, 4), (30, 50, 40))

    @pytest.fixture
    def grids(self, layers: list[Layer]) -> dict[int, MapGrid]:
        return {i: MapGrid.of(layers[i], self.region, SHAPE) for i in (12, 20)}

    @pytest.fixture
    def store(self, layers: list[Layer], grids: dict[int, MapGrid], tmp_path: Path) -> MapStore:
        return MapStore(
            tmp_path / "maps" / "cells.zarr",
            [layers[12], layers[20]],
            grids,
            voxel_size=(8.0, 4.0, 4.0),
            provenance={"checkpoint": "last.pt"},
        )

    @pytest.fixture
    def tiles(self, network: Vgg3D, layers: list[Layer], volume: Volume) -> list[MapTile]:
        chosen = [layers[12], layers[20]]
        return list(tiles_of(network, volume, self.region, chosen, tile_voxels=40_000))

    def test_maps_become_whole_under_a_temporary_name(
        self, store: MapStore, tiles: list[MapTile], network: Vgg3D, volume: Volume
    ) -> None:
        assert len(tiles) > 1
        with store:
            store.write(tiles[0])
            assert np.isnan(zarr.open_group(store.folder, mode="r")["L20"][:]).any()
            assert not store.path.exists()
            for tile in tiles[1:]:
                store.write(tile)
            store.finish()
        assert [path.name for path in store.path.parent.iterdir()] == ["cells.zarr"]
        for index in (12, 20):
            found = zarr.open_array(store.path / f"L{index}", mode="r")
            first = found.attrs["first"]
            assert found.attrs["complete"] is True
            part = tuple(slice(f, f + n) for f, n in zip(first, found.shape[1:], strict=True))
            assert_same(found[:], plain_map(network, volume.array, index)[(slice(None), *part)])

    def test_the_attributes_say_where_a_map_lies_and_what_it_is_of(self, store: MapStore) -> None:
        found = zarr.open_array(store.folder / "L20", mode="r")
        assert found.attrs.asdict() == {
            "axes": ["c", "z", "y", "x"],
            "stride": [4, 4, 4],
            "origin": [5.5, 5.5, 5.5],
            "first": [1, 1, 1],
            "layer": 20,
            "layer_name": "stage 3 conv 1",
            "voxel_size": [8.0, 4.0, 4.0],
            "provenance": {"checkpoint": "last.pt"},
        }
        assert found.metadata.zarr_format == 3
        assert found.dtype == np.float32

    def test_a_flipped_bit_in_a_map_is_told(self, store: MapStore, tiles: list[MapTile]) -> None:
        with store:
            for tile in tiles:
                store.write(tile)
            store.finish()
        chunk = next(file for file in (store.path / "L20" / "c").rglob("*") if file.is_file())
        content = bytearray(chunk.read_bytes())
        content[len(content) // 2] ^= 1
        chunk.write_bytes(content)
        with pytest.raises(ValueError, match="checksum"):
            zarr.open_array(store.path / "L20", mode="r")[:]

    def test_a_job_that_breaks_off_leaves_nothing(
        self, store: MapStore, tiles: list[MapTile]
    ) -> None:
        def broken_off() -> None:
            with store:
                store.write(tiles[0])
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            broken_off()
        assert not list(store.path.parent.iterdir())

    def test_maps_that_miss_a_tile_are_not_taken_for_whole(
        self, store: MapStore, tiles: list[MapTile]
    ) -> None:
        with store:
            store.write(tiles[0])
            assert not store.is_whole
            store.finish()
        found = zarr.open_array(store.path / "L20", mode="r")
        assert found.attrs["complete"] is False
        assert np.isnan(found[:]).any()

    def test_what_an_earlier_job_left_half_done_is_removed(
        self, store: MapStore, tiles: list[MapTile], layers: list[Layer], grids: dict
    ) -> None:
        store.write(tiles[0])
        chosen = [layers[12], layers[20]]
        with MapStore(store.path, chosen, grids, voxel_size=None, provenance={}) as second:
            assert np.isnan(zarr.open_array(second.folder / "L20", mode="r")[:]).all()

    def test_maps_that_are_there_are_replaced_if_asked_for_and_not_before_the_new_are_whole(
        self, store: MapStore, tiles: list[MapTile], layers: list[Layer], grids: dict
    ) -> None:
        def maker() -> str:
            return zarr.open_array(store.path / "L20", mode="r").attrs["provenance"].get("by")

        def again(name: str, *, overwrite: bool) -> MapStore:
            return MapStore(
                store.path,
                [layers[12], layers[20]],
                grids,
                voxel_size=None,
                provenance={"by": name},
                overwrite=overwrite,
            )

        for name in ("first", "second"):
            with again(name, overwrite=True) as written:
                for tile in tiles:
                    written.write(tile)
                assert name == "first" or maker() == "first"
                written.finish()
            assert maker() == name
        assert [path.name for path in store.path.parent.iterdir()] == ["cells.zarr"]
        with pytest.raises(InputError, match=r"cells.zarr is there already"):
            again("third", overwrite=False)
        assert maker() == "second"

    def test_what_others_have_put_among_maps_stays_when_these_are_replaced(
        self, store: MapStore, tiles: list[MapTile], layers: list[Layer], grids: dict
    ) -> None:
        for name in ("first", "second"):
            with MapStore(
                store.path,
                [layers[12], layers[20]],
                grids,
                voxel_size=None,
                provenance={"by": name},
                overwrite=True,
            ) as written:
                for tile in tiles:
                    written.write(tile)
                written.finish()
            (store.path / "mine").mkdir(exist_ok=True)
            (store.path / "mine" / f"{name}.txt").write_text("mine")
        assert {path.name for path in (store.path / "mine").iterdir()} == {
            "first.txt",
            "second.txt",
        }
        assert [path.name for path in store.path.parent.iterdir()] == ["cells.zarr"]

    def test_a_folder_of_other_things_is_not_replaced(
        self, layers: list[Layer], grids: dict, tmp_path: Path
    ) -> None:
        path = tmp_path / "mine.zarr"
        path.mkdir()
        with pytest.raises(InputError, match=r"mine.zarr is not replaced"):
            MapStore(path, [layers[20]], grids, voxel_size=None, provenance={}, overwrite=True)
        assert path.exists()

    def test_a_disk_without_room_is_said_before_anything_is_written(
        self, layers: list[Layer], tmp_path: Path
    ) -> None:
        n = 50_000
        grid = MapGrid.of(layers[20], Box((0, 0, 0), (n, n, n)), (n, n, n))
        with pytest.raises(InputError, match=r"take 6\d,\d{3}\.\d GiB .* are free .*smaller"):
            MapStore(tmp_path / "a.zarr", layers[20:21], {20: grid}, voxel_size=None, provenance={})
        assert not list(tmp_path.iterdir())

    def test_a_folder_that_cannot_be_written_to_is_said(
        self, layers: list[Layer], grids: dict, tmp_path: Path
    ) -> None:
        (tmp_path / "file").touch()
        path = tmp_path / "file" / "a.zarr"
        with pytest.raises(InputError, match="cannot write feature maps to"):
            MapStore(path, [layers[20]], grids, voxel_size=None, provenance={})

    def test_a_disk_that_fills_up_is_said_and_the_partial_folder_removed(
        self, store: MapStore, tiles: list[MapTile], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with store:
            store.write(tiles[0])
            # What the store of a full disk raises.
            monkeypatch.setattr("zarr.storage._local._put", full_disk)
            with pytest.raises(JobError, match="No space left on device"):
                store.write(tiles[1])
        assert not list(store.path.parent.iterdir())


def full_disk(*arguments: object, **named: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


class TestColors:
    def store(self, features: np.ndarray, folder: Path, layer: Layer) -> Path:
        size = features.shape[1:]
        grid = MapGrid((0, 0, 0), size, layer.stride, layer.offset)
        path = folder / "a.zarr"
        layer = Layer(
            20, "a layer", len(features), layer.stride, layer.receptive_field, layer.offset
        )
        part = MapPart(tuple(slice(0, n) for n in size), features)
        with MapStore(path, [layer], {20: grid}, voxel_size=None, provenance={}) as store:
            store.write(MapTile({20: part}, 1, 1))
            store.finish()
        return path

    def test_colours_are_the_components_from_their_1st_to_their_99th_percentile(
        self, layers: list[Layer], tmp_path: Path
    ) -> None:
        generator = np.random.default_rng(0)
        hidden = generator.normal(size=(3, 40 * 68 * 18)) * np.array([[5], [3], [2]])
        mixing = np.linalg.qr(generator.normal(size=(8, 3)))[0]
        features = (mixing @ hidden + 7).astype(np.float32).reshape(8, 40, 68, 18)
        path = self.store(features, tmp_path, layers[20])
        assert list(principal_rgb(path, 20)) == [(i, 4) for i in range(1, 5)]
        colors = zarr.open_array(path / "L20_rgb", mode="r")
        assert (colors.shape, colors.dtype) == ((40, 68, 18, 3), np.uint8)
        assert colors.attrs["axes"] == ["z", "y", "x", "c"]
        rows = features.reshape(8, -1).T
        scaled = (rows - rows.mean(0)) / rows.std(0)
        directions = np.linalg.svd(scaled, full_matrices=False)[2][:3]
        for i, direction in enumerate(directions):
            values = scaled @ direction * np.sign(direction[np.abs(direction).argmax()])
            low, high = np.percentile(values, (1, 99))
            expected = ((values - low) / (high - low) * 255).clip(0, 255)
            found = colors[..., i].reshape(-1).astype(float)
            assert np.abs(found - expected).max() < 1
            assert 0.009 < (found == 0).mean() < 0.02

    def test_elements_are_sampled_evenly(self, layers: list[Layer], tmp_path: Path) -> None:
        indices = np.indices((40, 70, 20)).astype(np.float32)
        indices[0, 0] = np.nan
        path = self.store(indices, tmp_path, layers[20])
        sample = sample_elements(zarr.open_array(path / "L20", mode="r"), 1000)
        assert 500 < len(sample) <= 1000
        for axis, n in enumerate((40, 70, 20)):
            gaps = np.diff(np.unique(sample[:, axis]))
            assert len(set(gaps)) == 1
            assert sample[:, axis].max() + gaps[0] >= n

    def test_the_same_features_have_the_same_colours_whatever_their_order(self) -> None:
        sample = np.random.default_rng(0).normal(size=(500, 6)) @ np.diag([1, 2, 3, 4, 5, 6])
        some, others = fit_coloring(sample), fit_coloring(sample[::-1])
        np.testing.assert_allclose(some.weights, others.weights, rtol=1e-4, atol=1e-4)

    def test_elements_that_are_not_finite_are_black(
        self, layers: list[Layer], tmp_path: Path
    ) -> None:
        features = np.random.default_rng(0).normal(size=(5, 9, 9, 9)).astype(np.float32)
        features[:, :4] = np.nan
        features[2, 5, 5, 5] = np.inf
        path = self.store(features, tmp_path, layers[20])
        list(principal_rgb(path, 20))
        colors = zarr.open_array(path / "L20_rgb", mode="r")[:]
        assert not colors[:4].any()
        assert not colors[5, 5, 5].any()
        assert (colors[6:].reshape(-1, 3).std(0) > 30).all()

    @pytest.mark.parametrize("channels", [1, 2])
    def test_components_that_are_missing_are_grey(self, channels: int) -> None:
        features = np.random.default_rng(0).normal(size=(channels, 4, 5, 6)).astype(np.float32)
        colors = colored(features, fit_coloring(features.reshape(channels, -1).T))
        assert (colors[..., channels:] == 128).all()
        assert (colors[..., :channels].std(axis=(0, 1, 2)) > 30).all()

    def test_a_component_of_rounding_alone_is_grey(self) -> None:
        one = np.random.default_rng(0).normal(size=1000)
        shares = fit_coloring(np.stack([one, 3 * one + 0.1, -one], axis=1)).shares
        assert shares[0] == pytest.approx(1)
        assert shares[1:] == (0, 0)

    @pytest.mark.parametrize("value", [3.25, np.nan])
    def test_constant_maps_are_grey_and_those_not_written_black(self, value: float) -> None:
        features = np.full((4, 3, 3, 3), value, np.float32)
        rows = features.reshape(4, -1).T
        colors = colored(features, fit_coloring(rows[np.isfinite(rows).all(axis=1)]))
        assert (colors == (128 if np.isfinite(value) else 0)).all()

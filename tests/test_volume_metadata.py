"""Places, units and links that the metadata of volumes tell: right, said, or refused in a line."""

import json
import os
import struct
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tensorstore
import zarr

from napari_synapse_cl.config import Config
from napari_synapse_cl.data.formats import chunked
from napari_synapse_cl.data.opening import open_dataset
from napari_synapse_cl.data.volumes import Volume, open_volume
from napari_synapse_cl.errors import InputError

SHAPE = (20, 24, 28)
VOXELS = np.random.default_rng(0).integers(1, 256, SHAPE, dtype=np.uint8)
NM = (40.0, 4.0, 5.0)


def write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def write_n5(folder: Path, voxels: np.ndarray = VOXELS, **attributes: Any) -> None:
    spec = {"driver": "n5", "kvstore": {"driver": "file", "path": str(folder)}}
    made = tensorstore.open(
        spec, create=True, dtype=voxels.dtype, shape=voxels.shape[::-1]
    ).result()
    made.write(voxels.T).result()
    document = folder / "attributes.json"
    write_json(document, {**json.loads(document.read_text()), **attributes})


def write_zarr(folder: Path, **attributes: Any) -> None:
    zarr.create_array(str(folder), data=VOXELS, chunks=(16,) * 3, attributes=attributes)


def told(volume: Volume) -> str:
    return "; ".join(text for text, _ in volume.messages)


class TestN5:
    @pytest.mark.parametrize("inner", ["raw", "raw/data", "raw/data/s0", "raw/data/s1"])
    def test_paintera_keeps_the_offset_beside_the_resolution(
        self, inner: str, tmp_path: Path
    ) -> None:
        write_json(tmp_path / "p.n5/raw/attributes.json", {"painteraData": {"type": "raw"}})
        around = {"multiScale": True, "resolution": NM[::-1], "offset": [50, 80, 1600]}
        write_json(tmp_path / "p.n5/raw/data/attributes.json", around)
        write_n5(tmp_path / "p.n5/raw/data/s0")
        half = VOXELS[::2, ::2, ::2]
        write_n5(tmp_path / "p.n5/raw/data/s1", half, downsamplingFactors=[2, 2, 2])
        volume = open_volume(tmp_path / "p.n5" / inner)
        coarser = 2 if inner.endswith("s1") else 1
        assert volume.offset == tuple(n // coarser for n in (40, 20, 10))
        assert volume.voxel_size == tuple(n * coarser for n in NM)
        assert "without a unit; it is taken for nm" in told(volume)

    @pytest.mark.parametrize("resolution", [[0.005, 0.004, 0.04], [5, 4, 40]])
    def test_bigdataviewer_keeps_the_unit_elsewhere(
        self, resolution: list[float], tmp_path: Path
    ) -> None:
        factors = {"downsamplingFactors": [[1, 1, 1], [2, 2, 1]], "dataType": "uint8"}
        write_json(tmp_path / "b.n5/setup0/attributes.json", factors)
        group = tmp_path / "b.n5/setup0/timepoint0"
        write_json(group / "attributes.json", {"multiScale": True, "resolution": resolution})
        write_n5(group / "s0")
        write_n5(group / "s1", VOXELS[:, ::2, ::2])
        fine, coarse = open_volume(tmp_path / "b.n5"), open_volume(group / "s1")
        assert (fine.voxel_size, coarse.voxel_size) == (None, None)
        assert (fine.factor, coarse.factor) == ((1, 1, 1), pytest.approx((1, 2, 2)))
        assert "in an XML file: give it as voxel_size in nm" in told(fine)

    def test_n5_viewer_keeps_size_and_scales_around_all_channels(self, tmp_path: Path) -> None:
        size = {"dimensions": [0.005, 0.004, 0.04], "unit": "um"}
        around = {"scales": [[1, 1, 1], [2, 2, 1]], "pixelResolution": size}
        write_json(tmp_path / "v.n5/attributes.json", around)
        write_n5(tmp_path / "v.n5/c0/s0")
        write_n5(tmp_path / "v.n5/c0/s1", VOXELS[:, ::2, ::2])
        volume = open_volume(tmp_path / "v.n5/c0/s1")
        assert volume.voxel_size == pytest.approx((40, 8, 10))
        assert volume.factor == pytest.approx((1, 2, 2))
        assert volume.messages == ()

    def test_a_group_may_be_named_from_its_folder(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write_n5(tmp_path / "v.n5/s0", pixelResolution={"dimensions": [5, 4, 40], "unit": "nm"})
        write_json(tmp_path / "v.n5/attributes.json", {"multiScale": True})
        monkeypatch.chdir(tmp_path)
        assert open_volume("v.n5").voxel_size == NM

    @pytest.mark.parametrize(
        ("attributes", "size", "message"),
        [
            ({"resolution": [5, 4, 40]}, NM, "taken for nm"),
            ({"resolution": [0.005, 0.004, 0.04]}, None, "cannot be nm, and is not used"),
            ({"resolution": [0.005, 4, 40], "units": ["um", "nm", "nm"]}, NM, ""),
            ({"pixelResolution": [5, 4, 40]}, None, "without a unit that is known"),
            (
                {"pixelResolution": {"dimensions": [5, 4, 40], "unit": "pixel"}},
                None,
                "without a unit that is known",
            ),
        ],
    )
    def test_a_size_without_a_unit_is_not_taken_in_silence(
        self, attributes: dict, size: tuple | None, message: str, tmp_path: Path
    ) -> None:
        write_n5(tmp_path / "v.n5", **attributes)
        volume = open_volume(tmp_path / "v.n5")
        assert volume.voxel_size == (None if size is None else pytest.approx(size))
        assert message in told(volume)
        assert bool(message) == bool(volume.messages)


class TestZarr:
    def test_openorganelle_writes_a_transform_to_arrays_too(self, tmp_path: Path) -> None:
        axes = {"axes": ["z", "y", "x"], "units": ["nm", "nm", "um"]}
        transform = {"scale": [40, 4, 0.005], "translate": [80, 8, 0.01], **axes}
        write_zarr(tmp_path / "v.zarr", transform=transform)
        volume = open_volume(tmp_path / "v.zarr")
        assert (volume.voxel_size, volume.offset) == (pytest.approx(NM), (2, 2, 2))

    @pytest.mark.parametrize(
        ("attributes", "size", "message"),
        [
            ({"resolution": NM}, NM, "taken for nm"),
            ({"resolution": (0.04, 0.004, 0.005)}, None, "cannot be nm"),
            ({"resolution": (0.04, 0.004, 0.005), "units": "um"}, NM, ""),
            ({"voxel_size": NM, "units": ["", "", ""]}, None, "a unit that is known"),
        ],
    )
    def test_a_size_without_a_unit_is_not_taken_in_silence(
        self, attributes: dict, size: tuple | None, message: str, tmp_path: Path
    ) -> None:
        write_zarr(tmp_path / "v.zarr", **attributes)
        volume = open_volume(tmp_path / "v.zarr")
        assert volume.voxel_size == (None if size is None else pytest.approx(size))
        assert message in told(volume)
        assert bool(message) == bool(volume.messages)

    def test_axes_without_units_are_told(self, tmp_path: Path) -> None:
        steps = [{"type": "scale", "scale": [4, 4, 4]}]
        levels = [{"path": "s0", "coordinateTransformations": steps}]
        axes = [{"name": name, "type": "space"} for name in "zyx"]
        multiscales = [{"axes": axes, "datasets": levels, "version": "0.4"}]
        zarr.open_group(tmp_path / "v.zarr", mode="w", attributes={"multiscales": multiscales})
        write_zarr(tmp_path / "v.zarr/s0")
        assert "without a unit that is known" in told(open_volume(tmp_path / "v.zarr"))

    def test_a_level_outside_of_the_group_is_refused(self, tmp_path: Path) -> None:
        multiscales = [{"datasets": [{"path": "../other.zarr"}]}]
        zarr.open_group(tmp_path / "v.zarr", mode="w", attributes={"multiscales": multiscales})
        write_zarr(tmp_path / "other.zarr")
        with pytest.raises(InputError, match=r"v\.zarr .*\.\./other\.zarr, which lies outside"):
            open_volume(tmp_path / "v.zarr")
        assert open_volume(tmp_path / "other.zarr").shape == SHAPE

    @pytest.mark.parametrize(
        "text",
        [
            '{"multiscales": ' + "[" * 10**5 + "]" * 10**5 + "}",
            '{"multiscales": [{"datasets": [7]}]}',
            '{"multiscales": [{"datasets": [{"path": 5}], "axes": 3}]}',
            '{"multiscales": [{"datasets": {"path": "s0"}}]}',
            '{"multiscales": "s0"}',
        ],
        ids=["deep", "number", "axes", "no list", "text"],
    )
    def test_metadata_of_other_types_are_refused_in_one_line(
        self, text: str, tmp_path: Path
    ) -> None:
        (tmp_path / "v.zarr").mkdir()
        (tmp_path / "v.zarr/.zgroup").write_text('{"zarr_format": 2}')
        (tmp_path / "v.zarr/.zattrs").write_text(text)
        with pytest.raises(InputError, match=r"v\.zarr") as raised:
            open_volume(tmp_path / "v.zarr")
        assert "\n" not in str(raised.value)

    @pytest.mark.parametrize(
        "shape", [[0, 8, 8], [-4, 8, 8], [10**6] * 3, [10**30] * 3, "many", [8.5, 8, 8], None]
    )
    @pytest.mark.parametrize("kind", ["zarr", "zarr3", "n5", "precomputed"])
    def test_sizes_that_no_volume_has_are_refused_in_one_line(
        self, kind: str, shape: Any, tmp_path: Path
    ) -> None:
        array = {"zarr_format": 2, "chunks": [8] * 3, "dtype": "|u1", "fill_value": 0, "order": "C"}
        grid = {"name": "regular", "configuration": {"chunk_shape": [8] * 3}}
        third = {"zarr_format": 3, "node_type": "array", "data_type": "uint8", "fill_value": 0}
        scale = {"key": "s", "encoding": "raw", "chunk_sizes": [[8] * 3], "resolution": [1] * 3}
        image = {"type": "image", "data_type": "uint8", "num_channels": 1}
        n5 = {"blockSize": [8] * 3, "dataType": "uint8", "compression": {"type": "raw"}}
        name, document = {
            "zarr": (".zarray", {**array, "shape": shape, "compressor": None, "filters": None}),
            "zarr3": (
                "zarr.json",
                {
                    **third,
                    "shape": shape,
                    "chunk_grid": grid,
                    "codecs": [{"name": "bytes"}],
                    "chunk_key_encoding": {"name": "default"},
                },
            ),
            "n5": ("attributes.json", {**n5, "dimensions": shape}),
            "precomputed": ("info", {**image, "scales": [{**scale, "size": shape}]}),
        }[kind]
        write_json(tmp_path / "v" / name, document)
        with pytest.raises(InputError, match=r"\bv\b") as raised:
            open_volume(tmp_path / "v")
        assert "\n" not in str(raised.value)


class TestGroups:
    @pytest.mark.parametrize("suffix", [".zarr", ".n5"])
    def test_links_to_a_group_itself_are_followed_once(self, suffix: str, tmp_path: Path) -> None:
        group = tmp_path / f"g{suffix}"
        write_json(group / (".zgroup" if suffix == ".zarr" else "attributes.json"), {})
        for name in "ab":
            (group / name).symlink_to(".")
        with pytest.raises(InputError, match="no array with three axes"):
            open_volume(group)
        write = write_zarr if suffix == ".zarr" else write_n5
        write(group / "raw")
        assert open_volume(group).location == str(group / "raw")

    def test_arrays_that_lie_elsewhere_may_be_linked(self, tmp_path: Path) -> None:
        write_zarr(tmp_path / "disk/raw.zarr")
        write_json(tmp_path / "g.zarr/.zgroup", {"zarr_format": 2})
        (tmp_path / "g.zarr/raw").symlink_to(tmp_path / "disk/raw.zarr")
        np.testing.assert_array_equal(open_volume(tmp_path / "g.zarr").array[:], VOXELS)

    def test_one_of_too_many_folders_is_not_looked_through(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(chunked, "MOST_FOLDERS", 20)
        for i in range(25):
            (tmp_path / f"g.n5/{i}/inner").mkdir(parents=True)
        with pytest.raises(InputError, match="more than 20 folders; name the array"):
            open_volume(tmp_path / "g.n5")


class TestHdf5:
    def test_voxels_in_another_file_are_refused(self, tmp_path: Path) -> None:
        (tmp_path / "secret").write_bytes(VOXELS.tobytes())
        with h5py.File(tmp_path / "v.h5", "w") as file:
            outside = [(str(tmp_path / "secret"), 0, h5py.h5f.UNLIMITED)]
            file.create_dataset("raw", SHAPE, "u1", external=outside)
        for path in ("v.h5", "v.h5/raw"):
            with pytest.raises(InputError, match=r"has its voxels in another file, .*secret"):
                open_volume(tmp_path / path)

    @pytest.mark.parametrize("way", ["link", "soft link", "group", "virtual"])
    @pytest.mark.parametrize("place", ["inside", "outside", "missing"])
    def test_other_files_of_the_folder_may_be_used(
        self, place: str, way: str, tmp_path: Path
    ) -> None:
        folder = tmp_path / "data"
        folder.mkdir()
        name = {"inside": "part.h5", "outside": "../other.h5", "missing": "gone.h5"}[place]
        if place != "missing":
            with h5py.File(folder / name, "w") as file:
                file.create_dataset("a/raw", data=VOXELS)
        with h5py.File(folder / "v.h5", "w") as file:
            if way == "virtual":
                layout = h5py.VirtualLayout(SHAPE, "u1")
                layout[:] = h5py.VirtualSource(name, "a/raw", SHAPE)
                file.create_virtual_dataset("raw", layout)
            elif way == "group":
                file["raw"] = h5py.ExternalLink(name, "/")
            else:
                file["hidden" if way == "soft link" else "raw"] = h5py.ExternalLink(name, "/a/raw")
            if way == "soft link":
                file["raw"] = h5py.SoftLink("/hidden")
        path = folder / "v.h5/raw" / ("a/raw" if way == "group" else "")
        if place == "inside":
            np.testing.assert_array_equal(open_volume(path).array[:], VOXELS)
            return
        message = "not in the folder of v.h5" if place == "outside" else "which is missing"
        with pytest.raises(InputError, match=message):
            open_volume(path)

    def test_what_is_put_together_of_files_with_voxels_elsewhere_is_refused(
        self, tmp_path: Path
    ) -> None:
        with h5py.File(tmp_path / "part.h5", "w") as file:
            outside = [("/etc/hostname", 0, h5py.h5f.UNLIMITED)]
            file.create_dataset("raw", SHAPE, "u1", external=outside)
        layout = h5py.VirtualLayout(SHAPE, "u1")
        layout[:] = h5py.VirtualSource("part.h5", "raw", SHAPE)
        with h5py.File(tmp_path / "v.h5", "w") as file:
            file.create_virtual_dataset("raw", layout)
        with pytest.raises(InputError, match=r"part\.h5/raw has its voxels in another file"):
            open_volume(tmp_path / "v.h5")

    def test_links_in_a_circle_are_told(self, tmp_path: Path) -> None:
        with h5py.File(tmp_path / "v.h5", "w") as file:
            file["a"], file["b"] = h5py.SoftLink("/b"), h5py.SoftLink("/a")
        with pytest.raises(InputError, match="lead in a circle"):
            open_volume(tmp_path / "v.h5/a")

    @pytest.mark.parametrize(
        ("attributes", "size", "message"),
        [
            ({"resolution": NM}, NM, "taken for nm"),
            ({"resolution": (0.04, 0.004, 0.005)}, None, "cannot be nm"),
            ({"resolution": (0.04, 0.004, 0.005), "units": ["um"] * 3}, NM, ""),
            ({"element_size_um": (0.04, 0.004, 0.005)}, NM, ""),
        ],
    )
    def test_a_size_without_a_unit_is_not_taken_in_silence(
        self, attributes: dict, size: tuple | None, message: str, tmp_path: Path
    ) -> None:
        with h5py.File(tmp_path / "v.h5", "w") as file:
            file.create_dataset("raw", data=VOXELS).attrs.update(attributes)
        volume = open_volume(tmp_path / "v.h5")
        assert volume.voxel_size == (None if size is None else pytest.approx(size))
        assert message in told(volume)
        assert bool(message) == bool(volume.messages)


class TestMrc:
    def write(self, path: Path, size: tuple[int, int, int], extended: int = 0) -> None:
        header = bytearray(1024)
        struct.pack_into("<4i", header, 0, *size, 6)
        struct.pack_into("<3i", header, 64, 1, 2, 3)
        struct.pack_into("<i", header, 92, extended)
        path.write_bytes(bytes(header) + VOXELS.astype("u2").tobytes())

    @pytest.mark.parametrize(
        ("size", "extended"), [((2**23,) * 3, 0), ((28, 24, 21), 0), ((28, 24, 20), 10**6)]
    )
    def test_a_header_that_tells_of_more_than_there_is_is_refused(
        self, size: tuple[int, int, int], extended: int, tmp_path: Path
    ) -> None:
        self.write(tmp_path / "v.mrc", size, extended)
        with pytest.raises(InputError, match=r"v\.mrc is cut off"):
            open_volume(tmp_path / "v.mrc")

    def test_what_is_not_read_is_told(self, tmp_path: Path) -> None:
        self.write(tmp_path / "v.mrc", (28, 24, 20))
        assert open_volume(tmp_path / "v.mrc").messages == ()
        self.write(tmp_path / "v.mrc", (28, 24, 18))
        ((text, level),) = open_volume(tmp_path / "v.mrc").messages
        assert "v.mrc has 2,688 bytes more than its header tells of" in text
        assert level == "warning"
        content = bytearray((tmp_path / "v.mrc").read_bytes()[: 1024 + 28 * 24 * 18 * 2])
        struct.pack_into("<3f", content, 196, 100, 0, 0)
        (tmp_path / "v.mrc").write_bytes(content)
        assert "tells an origin, which is not used" in told(open_volume(tmp_path / "v.mrc"))


def test_a_run_tells_what_was_said_of_its_volumes(tmp_path: Path) -> None:
    write_zarr(tmp_path / "v.zarr", resolution=NM)
    (tmp_path / "s.csv").write_text("z,y,x\n8,9,10\n9,10,11\n")
    settings = {"image": str(tmp_path / "v.zarr"), "synapses": str(tmp_path / "s.csv")}
    dataset = open_dataset(Config.from_values({**settings, "crop_size": (16,) * 3}))
    assert (
        "v.zarr tells a voxel size of 40 × 4 × 5 without a unit; it is taken for nm, "
        "unless voxel_size says otherwise",
        "info",
    ) in dataset.messages


def test_a_volume_behind_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "v.h5")
    with pytest.raises(InputError):
        open_volume(tmp_path / "v.h5")

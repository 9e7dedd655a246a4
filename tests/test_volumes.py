"""Files and folders of slices are opened lazily, and read as other programs wrote them."""

import json
import os
import shutil
import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path
from typing import Any

import h5py
import imageio.v3 as imageio
import mrcfile
import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_synapse_cl.data.arrays import ReadArray
from napari_synapse_cl.data.crops.sources import fingerprint
from napari_synapse_cl.data.formats.places import nanometres, size_in_nm
from napari_synapse_cl.data.formats.tiff_pages import DecodedPieces
from napari_synapse_cl.data.volumes import Volume, open_volume
from napari_synapse_cl.errors import InputError, JobError

SHAPE = (11, 20, 29)
CROP = (slice(3, 9), slice(5, 18), slice(7, 29))
SIZE = (40.0, 4.0, 5.0)


def voxels(dtype: str = "u1", shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    random = np.random.default_rng(0)
    if np.dtype(dtype).kind == "f":
        return random.normal(size=shape).astype(dtype)
    info = np.iinfo(dtype)
    return random.integers(info.min, info.max, shape, dtype=np.dtype(dtype).newbyteorder("="))


def check(volume: Volume, expected: np.ndarray) -> None:
    """Check a crop, the whole, and that the volume's location leads to the same."""
    np.testing.assert_array_equal(volume.array[CROP], expected[CROP])
    assert volume.location is not None
    again = open_volume(volume.location)
    np.testing.assert_array_equal(again.array[:, :, :], expected)
    assert told(again) == told(volume)


def told(volume: Volume) -> dict[str, object]:
    """All that is known of a volume but its voxels and its name."""
    names = [field.name for field in fields(volume)]
    return {name: getattr(volume, name) for name in names if name not in ("array", "name")}


class TestWhatIsNoVolume:
    @pytest.mark.parametrize(
        ("shape", "message"),
        [
            ((40, 50), "3D volume"),
            ((40, 50, 3), "colour image"),
            ((4, 40, 50, 3), "3D volume"),
            ((1, 40, 50), "3D volume"),
        ],
    )
    def test_images_are_refused(self, shape: tuple, message: str, tmp_path: Path) -> None:
        np.save(tmp_path / "v.npy", np.zeros(shape, np.uint8))
        with pytest.raises(InputError, match=message):
            open_volume(tmp_path / "v.npy")

    def test_complex_numbers_are_no_grey_values(self, tmp_path: Path) -> None:
        np.save(tmp_path / "v.npy", np.zeros((8, 8, 8), complex))
        with pytest.raises(InputError, match="complex"):
            open_volume(tmp_path / "v.npy")

    @pytest.mark.parametrize(
        "name",
        [
            *("none.tif", "none/none", "text.txt", "broken.tif", "broken.npy", "broken.h5"),
            *("broken.mrc", "empty", "file.tif/inside"),
        ],
    )
    def test_what_is_missing_strange_or_damaged_is_refused_in_one_line(
        self, name: str, tmp_path: Path
    ) -> None:
        for broken in ("text.txt", "broken.tif", "broken.npy", "broken.h5", "broken.mrc"):
            (tmp_path / broken).write_text("no voxels")
        tifffile.imwrite(tmp_path / "file.tif", voxels())
        (tmp_path / "empty").mkdir()
        with pytest.raises(InputError, match=name) as raised:
            open_volume(tmp_path / name)
        assert "\n" not in str(raised.value)

    def test_an_unknown_format_is_told_which_there_are(self, tmp_path: Path) -> None:
        (tmp_path / "v.dm4").write_bytes(bytes(100))
        with pytest.raises(InputError, match=r"TIFF.*MRC.*HDF5.*Zarr.*N5.*precomputed"):
            open_volume(tmp_path / "v.dm4")


class TestNpy:
    def test_it_is_memory_mapped(self, tmp_path: Path) -> None:
        np.save(tmp_path / "v.npy", voxels())
        volume = open_volume(tmp_path / "v.npy")
        assert isinstance(volume.array, np.memmap)
        check(volume, voxels())


class TestTiff:
    @pytest.mark.parametrize("dtype", ["u1", "<u2", ">u2", ">f4", "i2"])
    def test_without_compression_it_is_memory_mapped(self, dtype: str, tmp_path: Path) -> None:
        tifffile.imwrite(tmp_path / "v.tif", voxels(dtype), byteorder=np.dtype(dtype).str[0])
        volume = open_volume(tmp_path / "v.tif")
        assert isinstance(volume.array, np.memmap)
        assert volume.voxel_size is None
        check(volume, voxels(dtype))

    @pytest.mark.parametrize(
        "settings",
        [
            {"compression": "zlib"},
            {"compression": "zlib", "predictor": True, "rowsperstrip": 7},
            {"compression": "zlib", "tile": (16, 16), "bigtiff": True},
            {"compression": "zlib", "byteorder": ">"},
            {"tile": (16, 16)},
        ],
        ids=str,
    )
    @pytest.mark.parametrize("dtype", ["u1", "u2"])
    def test_with_compression_it_is_decoded_piece_by_piece(
        self, settings: dict, dtype: str, tmp_path: Path
    ) -> None:
        tifffile.imwrite(tmp_path / "v.btf", voxels(dtype), **settings)
        volume = open_volume(tmp_path / "v.btf")
        assert isinstance(volume.array, ReadArray)
        check(volume, voxels(dtype))

    @pytest.mark.parametrize("compression", [None, "zlib"])
    def test_stacks_that_were_written_page_by_page_open(
        self, compression: str | None, tmp_path: Path
    ) -> None:
        with tifffile.TiffWriter(tmp_path / "v.tif", byteorder=">") as writer:
            for page in voxels("u2"):
                writer.write(page, contiguous=False, compression=compression, rowsperstrip=7)
        check(open_volume(tmp_path / "v.tif"), voxels("u2"))

    def test_images_of_different_sizes_are_no_volume(self, tmp_path: Path) -> None:
        with tifffile.TiffWriter(tmp_path / "v.tif") as writer:
            for size in (10, 11):
                writer.write(voxels()[0, :size])
        with pytest.raises(InputError, match="different sizes"):
            open_volume(tmp_path / "v.tif")

    @pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_deflate"])
    @pytest.mark.parametrize("dtype", ["u1", "u2"])
    def test_stacks_of_another_library_open(
        self, compression: str | None, dtype: str, tmp_path: Path
    ) -> None:
        first, *others = (Image.fromarray(page) for page in voxels(dtype))
        settings = {"compression": compression} if compression else {}
        first.save(tmp_path / "v.tiff", save_all=True, append_images=others, **settings)
        check(open_volume(tmp_path / "v.tiff"), voxels(dtype))

    def test_the_voxel_size_of_imagej_is_read(self, tmp_path: Path) -> None:
        for unit, scale in [("nm", 1), ("um", 1000), ("\\u00B5m", 1000), ("micron", 1000)]:
            tifffile.imwrite(
                tmp_path / "v.tif",
                voxels(),
                imagej=True,
                resolution=(scale / 5, scale / 4),
                metadata={"spacing": 40 / scale, "unit": unit, "axes": "ZYX"},
            )
            volume = open_volume(tmp_path / "v.tif")
            assert volume.voxel_size == pytest.approx(SIZE, rel=1e-5)
            check(volume, voxels())

    @pytest.mark.parametrize("metadata", [{"axes": "ZYX"}, {"axes": "ZYX", "unit": "pixel"}])
    def test_imagej_without_a_unit_tells_no_voxel_size(
        self, metadata: dict, tmp_path: Path
    ) -> None:
        metadata = {"spacing": 1.0, **metadata}
        tifffile.imwrite(
            tmp_path / "v.tif", voxels(), imagej=True, resolution=(1, 1), metadata=metadata
        )
        assert open_volume(tmp_path / "v.tif").voxel_size is None

    @pytest.mark.parametrize("axes", ["TZCYX", "ZCYX", "TYX"])
    def test_axes_of_length_1_are_dropped_and_frames_are_taken_for_slices(
        self, axes: str, tmp_path: Path
    ) -> None:
        shape = {"Z": 11, "Y": 20, "X": 29}
        if "Z" not in axes:
            shape["T"] = 11
        array = voxels().reshape([shape.get(axis, 1) for axis in axes])
        tifffile.imwrite(tmp_path / "v.tif", array, imagej=True, metadata={"axes": axes})
        check(open_volume(tmp_path / "v.tif"), voxels())

    def test_ome_tiff_tells_its_voxel_size_with_the_unit_of_each_axis(self, tmp_path: Path) -> None:
        sizes = {"PhysicalSizeZ": 0.04, "PhysicalSizeY": 4, "PhysicalSizeX": 50}
        units = {"PhysicalSizeYUnit": "nm", "PhysicalSizeXUnit": "Å"}
        tifffile.imwrite(
            tmp_path / "v.ome.tif", voxels("u2"), metadata={"axes": "ZYX", **sizes, **units}
        )
        volume = open_volume(tmp_path / "v.ome.tif")
        assert volume.voxel_size == pytest.approx(SIZE)
        check(volume, voxels("u2"))

    @pytest.mark.parametrize(
        ("shape", "settings", "message"),
        [
            ((11, 20, 29, 3), {"photometric": "rgb"}, "colour image"),
            ((2, 11, 20, 29), {"ome": True, "metadata": {"axes": "CZYX"}}, "one channel"),
            ((11, 20, 29), {"ome": True, "metadata": {"axes": "CYX"}}, "11 channels"),
            ((20, 29), {}, "3D volume"),
        ],
    )
    def test_colours_channels_and_single_images_are_refused(
        self, shape: tuple, settings: dict, message: str, tmp_path: Path
    ) -> None:
        tifffile.imwrite(tmp_path / "v.tif", voxels(shape=shape), **settings)
        with pytest.raises(InputError, match=message):
            open_volume(tmp_path / "v.tif")

    @pytest.mark.parametrize("settings", [{}, {"compression": "zlib"}, {"contiguous": False}])
    @pytest.mark.parametrize("missing", [30, 300, 5000])
    def test_a_file_that_is_cut_off_says_so(
        self, settings: dict, missing: int, tmp_path: Path
    ) -> None:
        path = tmp_path / "v.tif"
        if "contiguous" in settings:
            with tifffile.TiffWriter(path) as writer:
                for page in voxels():
                    writer.write(page, **settings)
        else:
            tifffile.imwrite(path, voxels(), **settings)
        os.truncate(path, path.stat().st_size - missing)
        with pytest.raises(InputError, match=r"v\.tif is cut off"):
            open_volume(path)

    def test_a_damaged_page_is_told_with_its_place(self, tmp_path: Path) -> None:
        path = tmp_path / "v.tif"
        tifffile.imwrite(path, voxels(), compression="zlib")
        with tifffile.TiffFile(path) as file:
            start, length = file.pages[6].dataoffsets[0], file.pages[6].databytecounts[0]
        with path.open("rb+") as stream:
            stream.seek(start)
            stream.write(bytes(length))
        volume = open_volume(path)
        np.testing.assert_array_equal(volume.array[2:6], voxels()[2:6])
        with pytest.raises(JobError, match=r"v\.tif could not be read at z, y, x = 5:8, 0:20"):
            volume.array[5:8]


class TestSlices:
    def write(self, folder: Path, array: np.ndarray, suffix: str = ".tif", **settings: Any) -> None:
        folder.mkdir(exist_ok=True)
        for i, page in enumerate(array):
            imageio.imwrite(folder / f"slice_{i + 2}{suffix}", page, **settings)

    @pytest.mark.parametrize("suffix", [".tif", ".tiff", ".png"])
    @pytest.mark.parametrize("dtype", ["u1", "u2"])
    def test_they_are_taken_in_natural_order(self, suffix: str, dtype: str, tmp_path: Path) -> None:
        self.write(tmp_path / "s", voxels(dtype), suffix)
        for other in (".hidden.tif", "notes.txt", "Thumbs.db"):
            (tmp_path / "s" / other).write_text("no slice")
        volume = open_volume(tmp_path / "s")
        assert volume.shape == SHAPE
        assert volume.name == "s"
        check(volume, voxels(dtype))

    @pytest.mark.parametrize("compression", ["zlib", "tiff_lzw", ">", "float"])
    def test_compressed_big_endian_and_floating_slices_open(
        self, compression: str, tmp_path: Path
    ) -> None:
        array = voxels("f4" if compression == "float" else "u2")
        (tmp_path / "s").mkdir()
        for i, page in enumerate(array):
            path = tmp_path / "s" / f"{i:03}.tif"
            if compression == "tiff_lzw":
                Image.fromarray(page).save(path, compression=compression)
            elif compression == "zlib":
                tifffile.imwrite(path, page, compression=compression)
            else:
                tifffile.imwrite(path, page, byteorder=">")
        check(open_volume(tmp_path / "s"), array)

    def test_jpeg_is_read_as_it_decodes(self, tmp_path: Path) -> None:
        self.write(tmp_path / "s", voxels(), ".jpg")
        files = [tmp_path / "s" / f"slice_{i}.jpg" for i in range(2, 13)]
        check(open_volume(tmp_path / "s"), np.stack([imageio.imread(file) for file in files]))

    @pytest.mark.parametrize("suffix", [".png", ".tif"])
    @pytest.mark.parametrize("channels", [3, 4])
    def test_colours_become_grey(self, suffix: str, channels: int, tmp_path: Path) -> None:
        array = voxels(shape=(*SHAPE, channels))
        self.write(tmp_path / "s", array, suffix)
        red, green, blue = (array[..., i].astype(int) for i in range(3))
        grey = ((299 * red + 587 * green + 114 * blue + 500) // 1000).astype(np.uint8)
        check(open_volume(tmp_path / "s"), grey)

    @pytest.mark.parametrize(
        ("gone", "message"),
        [([7], "slice 7 is missing"), ([4, 9, 10], "slices 4, 9, 10 are missing")],
    )
    def test_gaps_are_told(self, gone: list[int], message: str, tmp_path: Path) -> None:
        self.write(tmp_path / "s", voxels())
        for number in gone:
            (tmp_path / "s" / f"slice_{number}.tif").unlink()
        with pytest.raises(InputError, match=message):
            open_volume(tmp_path / "s")

    def test_numbers_may_count_in_equal_steps(self, tmp_path: Path) -> None:
        (tmp_path / "s").mkdir()
        for i, page in enumerate(voxels()):
            imageio.imwrite(tmp_path / "s" / f"w3_z{40 * i}.png", page)
        check(open_volume(tmp_path / "s"), voxels())

    def test_slices_that_are_not_alike_are_refused(self, tmp_path: Path) -> None:
        folder = tmp_path / "s"
        for odd, message in [
            (voxels()[0, :, :-1], "differ in size"),
            (voxels("u2")[0], "differ in type"),
        ]:
            self.write(folder, voxels())
            imageio.imwrite(folder / "slice_5.tif", odd)
            with pytest.raises(InputError, match=message):
                open_volume(folder)
        self.write(folder, voxels())
        shutil.copy(folder / "slice_5.tif", folder / "slice_05.tif")
        with pytest.raises(InputError, match=r"twice: slice_0?5\.tif"):
            open_volume(folder)
        (folder / "slice_05.tif").rename(folder / "overview.tif")
        with pytest.raises(InputError, match="not named alike"):
            open_volume(folder)
        (folder / "overview.tif").unlink()
        imageio.imwrite(folder / "slice_13.png", voxels()[0])
        with pytest.raises(InputError, match="PNG, TIFF"):
            open_volume(folder)

    def test_a_damaged_slice_is_told_at_opening_or_with_its_place(self, tmp_path: Path) -> None:
        self.write(tmp_path / "t", voxels())
        os.truncate(tmp_path / "t" / "slice_4.tif", 200)
        with pytest.raises(InputError, match=r"slice_4\.tif"):
            open_volume(tmp_path / "t")
        self.write(tmp_path / "p", voxels(), ".png")
        os.truncate(tmp_path / "p" / "slice_4.png", 300)
        volume = open_volume(tmp_path / "p")
        with pytest.raises(JobError, match=r"p could not be read at z, y, x = 0:5"):
            volume.array[:5]

    def test_what_was_decoded_is_kept_up_to_a_limit(self) -> None:
        pieces, decoded = DecodedPieces(250), []

        def decode(key: int) -> np.ndarray:
            decoded.append(key)
            return np.zeros(100, np.uint8)

        for key in (1, 2, 1, 3, 1, 2):
            pieces.get(key, lambda key=key: decode(key))
        assert decoded == [1, 2, 3, 2]


class TestMrc:
    def write_by_hand(self, path: Path, array: np.ndarray, mode: int, **fields: Any) -> None:
        """Write a file by the published layout of the header."""
        order = array.dtype.byteorder if array.dtype.byteorder in "<>" else "<"
        header = bytearray(1024)
        z, y, x = array.shape
        struct.pack_into(f"{order}4i", header, 0, x, y, z, mode)
        struct.pack_into(f"{order}3i", header, 28, *fields.get("intervals", (x, y, z)))
        struct.pack_into(f"{order}3f", header, 40, *fields.get("cell", (0, 0, 0)))
        struct.pack_into(f"{order}3i", header, 64, *fields.get("axes", (1, 2, 3)))
        struct.pack_into(f"{order}2f", header, 76, *fields.get("range", (0, 0)))
        struct.pack_into(f"{order}i", header, 92, len(fields.get("extended", b"")))
        struct.pack_into(f"{order}2i", header, 152, *fields.get("imod", (0, 0)))
        path.write_bytes(bytes(header) + fields.get("extended", b"") + array.tobytes())

    @pytest.mark.parametrize("dtype", ["i1", "i2", "u2", "f4"])
    def test_files_of_mrcfile_open_memory_mapped(self, dtype: str, tmp_path: Path) -> None:
        with mrcfile.new(tmp_path / "v.mrc", voxels(dtype)) as file:
            file.voxel_size = (50, 40, 400)
        volume = open_volume(tmp_path / "v.mrc")
        assert isinstance(volume.array, np.memmap)
        assert volume.array.dtype == np.dtype(dtype)
        assert volume.voxel_size == pytest.approx(SIZE, rel=1e-5)
        check(volume, voxels(dtype))

    @pytest.mark.parametrize("order", "<>")
    @pytest.mark.parametrize(("mode", "kind"), [(1, "i2"), (2, "f4"), (6, "u2"), (12, "f2")])
    def test_either_byte_order_and_an_extended_header(
        self, order: str, mode: int, kind: str, tmp_path: Path
    ) -> None:
        array = voxels(order + kind).astype(order + kind)
        self.write_by_hand(tmp_path / "v.rec", array, mode, extended=b"anything" * 40)
        check(open_volume(tmp_path / "v.rec"), array)

    @pytest.mark.parametrize(
        ("fields", "dtype"),
        [
            ({}, "i1"),
            ({"range": (-100, 90)}, "i1"),
            ({"range": (0, 255)}, "u1"),
            ({"imod": (1146047817, 0)}, "u1"),
            ({"imod": (1146047817, 1), "range": (0, 255)}, "i1"),
        ],
    )
    def test_whether_bytes_are_signed_is_read_as_programs_tell_it(
        self, fields: dict, dtype: str, tmp_path: Path
    ) -> None:
        self.write_by_hand(tmp_path / "v.st", voxels(dtype), 0, **fields)
        check(open_volume(tmp_path / "v.st"), voxels(dtype))

    @pytest.mark.parametrize("cell", [(0, 0, 0), (29, 20, 11)])
    def test_a_cell_that_nobody_set_tells_no_voxel_size(self, cell: tuple, tmp_path: Path) -> None:
        self.write_by_hand(tmp_path / "v.map", voxels("i2"), 1, cell=cell)
        assert open_volume(tmp_path / "v.map").voxel_size is None

    def test_axes_that_were_exchanged_are_put_in_order(self, tmp_path: Path) -> None:
        array = voxels("i2")
        # Columns lie along y, rows along z and sections along x.
        stored = np.ascontiguousarray(array.transpose(2, 0, 1))
        self.write_by_hand(tmp_path / "v.map", stored, 1, axes=(2, 3, 1))
        check(open_volume(tmp_path / "v.map"), array)

    @pytest.mark.parametrize(
        ("mode", "message"), [(3, "complex"), (4, "complex"), (16, "MRC mode 16"), (-1, "damaged")]
    )
    def test_other_modes_are_refused(self, mode: int, message: str, tmp_path: Path) -> None:
        self.write_by_hand(tmp_path / "v.mrc", voxels("f4"), mode)
        with pytest.raises(InputError, match=message):
            open_volume(tmp_path / "v.mrc")

    @pytest.mark.parametrize("left", [500, 1024, 7000])
    def test_a_file_that_is_cut_off_says_so(self, left: int, tmp_path: Path) -> None:
        self.write_by_hand(tmp_path / "v.mrc", voxels("i2"), 1)
        os.truncate(tmp_path / "v.mrc", left)
        with pytest.raises(InputError, match=r"v\.mrc is cut off"):
            open_volume(tmp_path / "v.mrc")


class TestHdf5:
    @pytest.mark.parametrize("settings", [{}, {"chunks": (4, 8, 16), "compression": "gzip"}])
    @pytest.mark.parametrize("dtype", ["u1", ">u2", "f4", "u8"])
    def test_the_only_dataset_needs_no_name(
        self, settings: dict, dtype: str, tmp_path: Path
    ) -> None:
        with h5py.File(tmp_path / "v.h5", "w") as file:
            file.create_dataset("volumes/raw", data=voxels(dtype).astype(dtype), **settings)
            file.create_dataset("positions", data=np.zeros((5, 3)))
        for path in (tmp_path / "v.h5", tmp_path / "v.h5" / "volumes/raw"):
            volume = open_volume(path)
            assert volume.location == str(tmp_path / "v.h5/volumes/raw")
            check(volume, voxels(dtype))

    def test_of_several_one_must_be_named(self, tmp_path: Path) -> None:
        with h5py.File(tmp_path / "v.hdf5", "w") as file:
            for i in range(12):
                file.create_dataset(f"volumes/labels/{i:02}", data=voxels())
        with pytest.raises(
            InputError, match=r"volumes/labels/09, …; name one, as in v\.hdf5/volumes/labels/00"
        ):
            open_volume(tmp_path / "v.hdf5")
        with pytest.raises(InputError, match=r"no volumes/row in .*volumes/labels/00"):
            open_volume(tmp_path / "v.hdf5/volumes/row")
        assert open_volume(tmp_path / "v.hdf5/volumes/labels/03").name == "v.hdf5/volumes/labels/03"

    @pytest.mark.parametrize(
        ("attributes", "size", "offset"),
        [
            ({"resolution": SIZE, "offset": (-80, 8, 10)}, SIZE, (-2, 2, 2)),
            ({"element_size_um": (0.04, 0.004, 0.005)}, SIZE, (0, 0, 0)),
            ({"resolution": (4, 4)}, None, (0, 0, 0)),
            ({}, None, (0, 0, 0)),
        ],
    )
    def test_voxel_size_and_offset_are_read(
        self, attributes: dict, size: tuple | None, offset: tuple, tmp_path: Path
    ) -> None:
        with h5py.File(tmp_path / "v.h5", "w") as file:
            file.create_dataset("raw", data=voxels()).attrs.update(attributes)
        volume = open_volume(tmp_path / "v.h5")
        assert volume.voxel_size == (None if size is None else pytest.approx(size))
        assert volume.offset == offset

    def test_axes_of_length_1_are_dropped_and_names_are_followed(self, tmp_path: Path) -> None:
        with h5py.File(tmp_path / "v.h5", "w") as file:
            file.create_dataset("a", data=voxels()[..., None])
            tags = {"axes": [{"key": key} for key in "xyzc"]}
            dataset = file.create_dataset("b", data=voxels().T[..., None])
            dataset.attrs["axistags"] = json.dumps(tags)
            file.create_dataset("c", data=np.stack([voxels()] * 2))
        check(open_volume(tmp_path / "v.h5/a"), voxels())
        check(open_volume(tmp_path / "v.h5/b"), voxels())
        with pytest.raises(InputError, match="one channel"):
            open_volume(tmp_path / "v.h5/c")

    def test_a_file_that_is_cut_off_says_so(self, tmp_path: Path) -> None:
        with h5py.File(tmp_path / "v.h5", "w") as file:
            file.create_dataset("raw", data=voxels())
        os.truncate(tmp_path / "v.h5", 4000)
        with pytest.raises(InputError, match=r"v\.h5 cannot be read.*truncated"):
            open_volume(tmp_path / "v.h5")

    def test_an_unknown_compression_is_told_at_opening(self, tmp_path: Path) -> None:
        with h5py.File(tmp_path / "v.h5", "w") as file:
            file.create_dataset(
                "raw", SHAPE, "u1", chunks=SHAPE, compression=32999, allow_unknown_filter=True
            )
        with pytest.raises(InputError, match=r"v\.h5/raw is compressed in a way .*filter 32999"):
            open_volume(tmp_path / "v.h5")

    def test_a_damaged_chunk_is_told_with_its_place(self, tmp_path: Path) -> None:
        with h5py.File(tmp_path / "v.h5", "w") as file:
            made = file.create_dataset("raw", data=voxels(), chunks=(4, 20, 29), compression=4)
            chunk = made.id.get_chunk_info(1)
        with (tmp_path / "v.h5").open("rb+") as stream:
            stream.seek(chunk.byte_offset)
            stream.write(bytes(chunk.size))
        volume = open_volume(tmp_path / "v.h5")
        np.testing.assert_array_equal(volume.array[:4], voxels()[:4])
        with pytest.raises(JobError, match=r"v\.h5 could not be read at z, y, x = 4:5.*damaged"):
            volume.array[4]


class TestRegions:
    @pytest.fixture
    def array(self) -> ReadArray:
        return ReadArray(SHAPE, np.dtype("u1"), lambda region: voxels()[region], "v.h5")

    @pytest.mark.parametrize(
        "key",
        [
            3,
            -1,
            np.int64(4),
            (2, 3, 4),
            (slice(None), 5),
            (..., 2),
            (slice(-4, None), ..., slice(None, -3)),
            (slice(5, 2), slice(None), slice(0, 99)),
            CROP,
        ],
        ids=str,
    )
    def test_they_are_those_of_numpy(self, array: ReadArray, key: Any) -> None:
        np.testing.assert_array_equal(array[key], voxels()[key])
        np.testing.assert_array_equal(np.asarray(array), voxels())

    @pytest.mark.parametrize("key", [11, -12, slice(0, 9, 2), (0, 0, 0, 0)])
    def test_others_are_refused(self, array: ReadArray, key: Any) -> None:
        with pytest.raises(IndexError):
            array[key]

    def test_several_threads_read_what_one_reads(self, tmp_path: Path) -> None:
        tifffile.imwrite(tmp_path / "v.tif", voxels("u2"), compression="zlib", tile=(16, 16))
        with h5py.File(tmp_path / "v.h5", "w") as file:
            file.create_dataset("raw", data=voxels("u2"), chunks=(4, 8, 8), compression="gzip")
        for name in ("v.tif", "v.h5"):
            volume = open_volume(tmp_path / name)
            with ThreadPoolExecutor(4) as pool:
                pages = list(pool.map(lambda z, array=volume.array: array[z % 11], range(66)))
            np.testing.assert_array_equal(pages, np.concatenate([voxels("u2")] * 6))


def test_libraries_of_formats_are_imported_when_they_are_needed(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", voxels())
    heavy = {"tensorstore", "h5py", "zarr", "torch"}
    code = (
        "import sys; from napari_synapse_cl.data.volumes import open_volume; "
        f"open_volume(sys.argv[1]); print({heavy} & set(sys.modules))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "v.npy")]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert told.strip() == "set()"


class TestLengths:
    @pytest.mark.parametrize(
        ("unit", "length"),
        [
            *[(unit, 1) for unit in ("nm", "nanometer", "nanometers", "Nanometre")],
            *[
                (unit, 1000)
                for unit in ("um", "\u00b5m", "\u03bcm", "micron", "microns", "micrometer")
            ],
            *[(unit, 0.1) for unit in ("\u00c5", "\u212b", "angstrom", "Angstroms")],
            *[("mm", 1e6), ("cm", 1e7), ("m", 1e9), ("meter", 1e9)],
            *[(unit, None) for unit in ("pixel", "", None, "s", "second", "furlong")],
        ],
    )
    def test_units_are_known_by_their_names(self, unit: str, length: float | None) -> None:
        assert nanometres(unit) == length

    @pytest.mark.parametrize(
        ("lengths", "units", "size"),
        [
            ((0.04, 4, 50), ("um", "nm", "angstrom"), SIZE),
            ((0.04, 4, 50), ("um", None, "angstrom"), None),
            ((40, 4, 0), "nm", None),
            ((40, 4, np.nan), "nm", None),
            ((40, 4), "nm", None),
            (None, "nm", None),
            (("a", "b", "c"), "nm", None),
        ],
    )
    def test_a_size_is_known_if_all_of_it_is(
        self, lengths: Any, units: Any, size: tuple | None
    ) -> None:
        assert size_in_nm(lengths, units) == (None if size is None else pytest.approx(size))


class TestFingerprints:
    def test_that_of_a_file_changes_with_it(self, tmp_path: Path) -> None:
        path = tmp_path / "v.h5"
        path.write_bytes(b"one")
        found = [fingerprint(str(path)), fingerprint(f"{path}/raw")]
        path.write_bytes(b"another")
        found += [fingerprint(str(path)), fingerprint(f"{path}/raw")]
        assert len({json.dumps(values) for values in found}) == 4
        assert fingerprint(str(path)) == found[2]

    def test_that_of_slices_changes_with_their_number(self, tmp_path: Path) -> None:
        found = []
        for i in range(3):
            (tmp_path / f"{i}.png").write_bytes(b"slice")
            found.append(json.dumps(fingerprint(str(tmp_path))))
        assert len(set(found)) == 3

    def test_what_is_missing_has_none(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"no volume .*none\.tif"):
            fingerprint(str(tmp_path / "none.tif"))


@pytest.mark.real_data
def test_a_crop_of_a_fib_sem_volume_is_that_of_another_library(medulla: Path) -> None:
    path = medulla / "training_sample1.tif"
    volume = open_volume(path)
    pages = [imageio.imread(path, index=z, plugin="pillow") for z in range(40, 44)]
    crop = volume.array[40:44, 100:180, 30:110]
    np.testing.assert_array_equal(crop, np.stack(pages)[:, 100:180, 30:110])


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_name_that_is_no_utf8_is_read_or_refused_in_words(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    (folder / "slices").mkdir(parents=True)
    array = np.arange(6 * 7 * 8, dtype=np.uint8).reshape(6, 7, 8)
    tifffile.imwrite(folder / "v.tif", array)
    np.save(folder / "v.npy", array)
    with h5py.File(folder / "v.h5", "w") as file:
        file["d"] = array
    for name in ("v.tif", "v.npy", "v.h5"):
        np.testing.assert_array_equal(open_volume(folder / name).array[:], array)
    with pytest.raises(InputError, match=r"slices is not in UTF-8: rename it"):
        open_volume(folder / "slices")

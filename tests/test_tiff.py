"""TIFF as programs of microscopy write it: grey values, files and lengths are read as they mean."""

import re
import tracemalloc
import uuid
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from conftest import deflated_zeros, grown
from napari_synapse_cl.config import Config
from napari_synapse_cl.data.arrays import ReadArray
from napari_synapse_cl.data.crops.sources import cache_folder
from napari_synapse_cl.data.opening import open_dataset
from napari_synapse_cl.data.volumes import Volume, open_volume
from napari_synapse_cl.errors import InputError, JobError

SHAPE = (6, 20, 29)
CROP = (slice(1, 5), slice(5, 18), slice(7, 29))
IMAGEJ = "ImageJ=1.54f\nimages=6\nslices=6\n"


def voxels(dtype: str = "u1") -> np.ndarray:
    random = np.random.default_rng(0)
    if np.dtype(dtype).kind == "f":
        return random.normal(size=SHAPE).astype(dtype)
    info = np.iinfo(dtype)
    return random.integers(info.min, info.max, SHAPE, dtype=np.dtype(dtype), endpoint=True)


def check(volume: Volume, expected: np.ndarray) -> None:
    assert volume.array.dtype == expected.dtype
    np.testing.assert_array_equal(volume.array[CROP], expected[CROP])
    np.testing.assert_array_equal(volume.array[:, :, :], expected)


def write_slices(folder: Path, array: np.ndarray, **settings: Any) -> Path:
    folder.mkdir()
    for z, page in enumerate(array):
        tifffile.imwrite(folder / f"s{z}.tif", page, **settings)
    return folder


class TestWhiteThatIsZero:
    """What is shown as black is low, whichever number it is stored as."""

    EXCHANGED = {  # noqa: RUF012
        "u1": lambda stored: 255 - stored,
        "u2": lambda stored: 65535 - stored,
        "i2": lambda stored: -1 - stored,
        "f4": lambda stored: -stored,
    }

    @pytest.mark.parametrize("compression", [None, "zlib"])
    @pytest.mark.parametrize("dtype", EXCHANGED)
    def test_values_are_exchanged(
        self, dtype: str, compression: str | None, tmp_path: Path
    ) -> None:
        stored, expected = voxels(dtype), self.EXCHANGED[dtype](voxels(dtype))
        settings = {"photometric": "miniswhite", "compression": compression}
        tifffile.imwrite(tmp_path / "v.tif", stored, **settings)
        stack = open_volume(tmp_path / "v.tif")
        slices = open_volume(write_slices(tmp_path / "slices", stored, **settings))
        for volume in (stack, slices):
            check(volume, expected)
            assert "stores white as 0" in volume.messages[0][0]

    def test_it_is_still_read_region_by_region(self, tmp_path: Path) -> None:
        shape = (64, 512, 512)
        tifffile.imwrite(tmp_path / "v.tif", shape=shape, dtype="u1", photometric="miniswhite")
        tracemalloc.start()
        volume = open_volume(tmp_path / "v.tif")
        crop = volume.array[10:12, 100:110, 100:110]
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert isinstance(volume.array, ReadArray)
        assert (crop == 255).all()
        assert peak < 2**22

    @pytest.mark.parametrize("dtype", ["u1", "u2"])
    def test_what_another_library_decodes_is_not_exchanged_twice(
        self, dtype: str, tmp_path: Path
    ) -> None:
        pages = [Image.fromarray(page) for page in voxels(dtype)]
        settings = {"compression": "tiff_lzw", "tiffinfo": {262: 0}}
        path = tmp_path / "v.tif"
        pages[0].save(path, save_all=True, append_images=pages[1:], **settings)
        with tifffile.TiffFile(path) as file:
            # Pillow may write the tag that it was given, or its own.
            is_white_zero = file.pages[0].photometric == tifffile.PHOTOMETRIC.MINISWHITE
        with Image.open(path) as image:
            shown = np.array(image)
        if dtype == "u2" and is_white_zero:
            shown = 65535 - shown
        np.testing.assert_array_equal(open_volume(path).array[0], shown)

    def test_an_inverting_table_of_imagej_counts_too(self, tmp_path: Path) -> None:
        ramp = np.tile(np.arange(256, dtype="u2")[::-1] * 257, (3, 1))
        settings = {"photometric": "palette", "colormap": ramp, "metadata": None}
        tifffile.imwrite(tmp_path / "v.tif", voxels(), description=IMAGEJ, **settings)
        check(open_volume(tmp_path / "v.tif"), 255 - voxels())

    def test_labels_are_numbers_and_stay_as_they_are_stored(self, tmp_path: Path) -> None:
        tifffile.imwrite(tmp_path / "v.tif", voxels("u2"), photometric="miniswhite")
        folder = write_slices(tmp_path / "slices", voxels("u2"), photometric="miniswhite")
        for path in (tmp_path / "v.tif", folder):
            volume = open_volume(path, are_labels=True)
            check(volume, voxels("u2"))
            assert "read as they are stored" in volume.messages[0][0]

    def test_a_run_says_it_and_takes_no_crops_that_were_cut_otherwise(self, tmp_path: Path) -> None:
        array = np.random.default_rng(0).integers(0, 256, (40, 40, 40), "u1")
        (tmp_path / "t.csv").write_text("z,y,x\n20,20,20\n21,20,20\n")
        folders = []
        for photometric in ("miniswhite", "minisblack"):
            path = tmp_path / "v.tif"
            tifffile.imwrite(path, array, photometric=photometric)
            values = {
                "image": str(path),
                "synapses": str(tmp_path / "t.csv"),
                "crop_size": (16,) * 3,
            }
            config = Config.from_values({**values, "labels": str(path)})
            dataset = open_dataset(config)
            told = [text for text, _ in dataset.messages if "stores white as 0" in text]
            assert len(told) == (2 if photometric == "miniswhite" else 0)
            folders.append(cache_folder(dataset.streamed(config, (16,) * 3), tmp_path))
        assert folders[0] != folders[1]


class TestOtherGreys:
    @pytest.mark.parametrize("is_slices", [False, True])
    def test_bits_become_black_and_white(self, is_slices: bool, tmp_path: Path) -> None:
        bits = voxels() > 100
        if is_slices:
            path = write_slices(tmp_path / "slices", bits, photometric="minisblack")
        else:
            path = tmp_path / "v.tif"
            tifffile.imwrite(path, bits, photometric="minisblack")
        check(open_volume(path), bits.astype("u1") * 255)

    @pytest.mark.parametrize("is_slices", [False, True])
    def test_colours_of_a_palette_become_grey(self, is_slices: bool, tmp_path: Path) -> None:
        colors = np.random.default_rng(1).integers(0, 256, (3, 256)).astype("u2") * 257
        settings = {"photometric": "palette", "colormap": colors}
        if is_slices:
            path = write_slices(tmp_path / "slices", voxels(), **settings)
        else:
            path = tmp_path / "v.tif"
            tifffile.imwrite(path, voxels(), **settings)
        shades = (np.array([299, 587, 114]) @ (colors // 257).astype(int) + 500) // 1000
        check(open_volume(path), shades.astype("u1")[voxels()])
        check(open_volume(path, are_labels=True), voxels())

    def test_a_table_of_colours_of_imagej_is_for_looking_alone(self, tmp_path: Path) -> None:
        colors = np.random.default_rng(1).integers(0, 256, (3, 256)).astype("u2") * 257
        settings = {"photometric": "palette", "colormap": colors, "metadata": None}
        tifffile.imwrite(tmp_path / "v.tif", voxels(), description=IMAGEJ, **settings)
        check(open_volume(tmp_path / "v.tif"), voxels())

    def test_labels_of_png_slices_with_a_palette_are_its_numbers(self, tmp_path: Path) -> None:
        for z, page in enumerate(voxels() % 7):
            image = Image.fromarray(page, "P")
            image.putpalette(np.random.default_rng(1).integers(0, 256, 768).tolist())
            image.save(tmp_path / f"s{z}.png")
        check(open_volume(tmp_path, are_labels=True), voxels() % 7)


class TestOmeInSeveralFiles:
    def write(
        self,
        folder: Path,
        per_file: int = 2,
        order: str = "XYZCT",
        name: str = "{}",
        binary_only: bool = False,
        **settings: Any,
    ) -> list[Path]:
        names = [f"x_{k}.ome.tif" for k in range(6 // per_file)]
        ids = [f"urn:uuid:{uuid.uuid4()}" for _ in names]
        blocks = "".join(
            f'<TiffData FirstZ="{k * per_file}" IFD="0" PlaneCount="{per_file}">'
            f'<UUID FileName="{name.format(file)}">{one}</UUID></TiffData>'
            for k, (file, one) in enumerate(zip(names, ids, strict=True))
        )
        sizes = "".join(
            f'PhysicalSize{axis}="{n}" PhysicalSize{axis}Unit="nm" '
            for axis, n in (("Z", 40), ("Y", 4), ("X", 5))
        )
        image = (
            f'<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="{order}" Type="uint8" '
            f'SizeX="29" SizeY="20" SizeZ="6" SizeC="1" SizeT="1" {sizes}>{blocks}</Pixels></Image>'
        )
        if binary_only:
            self.write_text(folder / "x.companion.ome", "urn:uuid:0", image)
            image = '<BinaryOnly MetadataFile="x.companion.ome" UUID="urn:uuid:0"/>'
        for k, (file, one) in enumerate(zip(names, ids, strict=True)):
            tifffile.imwrite(
                folder / file,
                voxels()[k * per_file : (k + 1) * per_file],
                description=self.text(one, image).encode(),
                metadata=None,
                photometric="minisblack",
                **settings,
            )
        return [folder / file for file in names]

    def text(self, one: str, content: str) -> str:
        schema = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
        return f'<?xml version="1.0"?><OME xmlns="{schema}" UUID="{one}">{content}</OME>'

    def write_text(self, path: Path, one: str, content: str) -> None:
        path.write_text(self.text(one, content))

    @pytest.mark.parametrize("settings", [{}, {"compression": "zlib"}, {"byteorder": ">"}])
    @pytest.mark.parametrize("per_file", [1, 3])
    def test_any_of_the_files_leads_to_the_whole(
        self, per_file: int, settings: dict, tmp_path: Path
    ) -> None:
        for file in self.write(tmp_path, per_file, **settings):
            volume = open_volume(file)
            check(volume, voxels())
            assert volume.voxel_size == pytest.approx((40, 4, 5))

    def test_the_metadata_may_be_in_a_file_of_their_own(self, tmp_path: Path) -> None:
        files = self.write(tmp_path, binary_only=True)
        check(open_volume(files[1]), voxels())
        (tmp_path / "x.companion.ome").unlink()
        with pytest.raises(InputError, match=r"metadata are in the file x\.companion\.ome, which"):
            open_volume(files[1])

    def test_a_missing_file_is_named_with_its_planes(self, tmp_path: Path) -> None:
        files = self.write(tmp_path)
        files[1].unlink()
        message = r"several files, of which x_1\.ome\.tif \(planes 2 to 3\) is not beside it"
        with pytest.raises(InputError, match=message):
            open_volume(files[0])

    def test_files_that_were_renamed_are_known_by_what_they_call_themselves(
        self, tmp_path: Path
    ) -> None:
        files = self.write(tmp_path)
        files[0].rename(tmp_path / "other.tif")
        files[1].rename(files[0])
        files[2].rename(files[1])
        for file in (tmp_path / "other.tif", files[0], files[1]):
            check(open_volume(file), voxels())

    def test_a_file_that_has_the_name_of_a_missing_one_does_not_stand_for_it(
        self, tmp_path: Path
    ) -> None:
        files = self.write(tmp_path)
        files[2].rename(files[1])
        with pytest.raises(InputError, match=r"x_1\.ome\.tif \(planes 2 to 3\) is not beside it"):
            open_volume(files[0])

    def test_a_file_that_was_saved_anew_is_known_by_its_name(self, tmp_path: Path) -> None:
        files = self.write(tmp_path)
        with tifffile.TiffFile(files[1]) as file:
            text = file.pages[0].description
        text = text.replace(text.split('UUID="')[1][:45], f"urn:uuid:{uuid.uuid4()}", 1)
        settings = {"metadata": None, "photometric": "minisblack"}
        tifffile.imwrite(files[1], voxels()[2:4], description=text.encode(), **settings)
        check(open_volume(files[0]), voxels())

    @pytest.mark.parametrize("name", ["/somewhere/else/{}", "../outside/{}", "C:\\data\\{}"])
    def test_names_that_lead_out_of_the_folder_are_not_followed(
        self, name: str, tmp_path: Path
    ) -> None:
        folder = tmp_path / "inside"
        folder.mkdir()
        files = self.write(folder, name=name)
        check(open_volume(files[0]), voxels())
        outside = tmp_path / "outside"
        outside.mkdir()
        files[1].rename(outside / files[1].name)
        with pytest.raises(InputError, match="not beside it"):
            open_volume(files[0])

    def test_a_file_with_too_few_pages_is_told(self, tmp_path: Path) -> None:
        files = self.write(tmp_path)
        with tifffile.TiffFile(files[1]) as file:
            text = file.pages[0].description
        tifffile.imwrite(files[1], voxels()[0], description=text.encode(), metadata=None)
        with pytest.raises(InputError, match=r"x_1\.ome\.tif holds 1 pages, .* tells of 2"):
            open_volume(files[0])

    @pytest.mark.parametrize("says_who_it_is", [True, False])
    def test_a_single_file_that_was_renamed_opens(
        self, says_who_it_is: bool, tmp_path: Path
    ) -> None:
        (file,) = self.write(tmp_path, per_file=6)
        with tifffile.TiffFile(file) as opened:
            text = opened.pages[0].description
        if not says_who_it_is:
            text = re.sub(r'(<OME [^>]*) UUID="[^"]+"', r"\1", text)
        file.unlink()
        settings = {"metadata": None, "photometric": "minisblack"}
        tifffile.imwrite(tmp_path / "y.tif", voxels(), description=text.encode(), **settings)
        check(open_volume(tmp_path / "y.tif"), voxels())

    def test_of_several_images_the_voxel_size_is_that_of_the_volume(self, tmp_path: Path) -> None:
        with tifffile.TiffWriter(tmp_path / "v.ome.tif") as writer:
            writer.write(voxels()[0], metadata={"axes": "YX", "PhysicalSizeX": 9})
            sizes = {"PhysicalSizeZ": 0.04, "PhysicalSizeY": 0.004, "PhysicalSizeX": 0.005}
            writer.write(voxels(), metadata={"axes": "ZYX", **sizes})
        volume = open_volume(tmp_path / "v.ome.tif")
        check(volume, voxels())
        assert volume.voxel_size == pytest.approx((40, 4, 5))


class TestUnitsOfImageJ:
    def open(self, lines: str, resolution: tuple[float, float], folder: Path) -> Volume:
        settings: dict[str, Any] = {"resolution": resolution, "resolutionunit": 1}
        description = IMAGEJ + lines
        tifffile.imwrite(
            folder / "v.tif", voxels(), description=description, metadata=None, **settings
        )
        return open_volume(folder / "v.tif")

    @pytest.mark.parametrize(
        ("lines", "resolution"),
        [
            ("unit=nm\nspacing=40\n", (1 / 8, 1 / 4)),
            ("unit=nm\nspacing=-40\n", (1 / 8, 1 / 4)),
            ("unit=\\u00B5m\nspacing=0.04\n", (125, 250)),
            ("unit=nm\nzunit=micron\nspacing=0.04\n", (1 / 8, 1 / 4)),
            ("unit=micron\nzunit=nm\nspacing=40\n", (125, 1 / 0.004)),
            ("unit=nm\nyunit=\\u00B5m\nspacing=40\n", (1 / 8, 250)),
            ("unit=\\u00C5\nspacing=400\n", (1 / 80, 1 / 40)),
        ],
    )
    def test_each_axis_has_its_own(
        self, lines: str, resolution: tuple[float, float], tmp_path: Path
    ) -> None:
        volume = self.open(lines, resolution, tmp_path)
        assert volume.voxel_size == pytest.approx((40, 4, 8), rel=1e-4)
        assert not volume.messages

    @pytest.mark.parametrize("lines", ["zunit=pixel\nspacing=2\n", "", "spacing=0\n"])
    def test_an_axis_that_is_not_known_makes_the_voxel_size_unknown(
        self, lines: str, tmp_path: Path
    ) -> None:
        volume = self.open(f"unit=nm\n{lines}", (1 / 8, 1 / 4), tmp_path)
        assert volume.voxel_size is None
        assert "along y 4 nm, x 8 nm, and along z no length that is known" in volume.messages[0][0]


class TestFilesMadeToFillTheMemory:
    def test_xml_that_defines_entities_is_refused(self, tmp_path: Path) -> None:
        laughs = '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]><OME>&b;</OME>'
        tifffile.imwrite(tmp_path / "v.tif", voxels(), description=laughs, metadata=None)
        with pytest.raises(InputError, match="XML entities"):
            open_volume(tmp_path / "v.tif")

    @pytest.mark.parametrize(
        ("tags", "message"),
        [
            ({"ImageLength": 2**30}, "is damaged: pages of 29 × 1073741824 pixels"),
            ({"ImageWidth": 2**31 - 1, "ImageLength": 2**31 - 1}, "GiB to unpack|is damaged"),
        ],
    )
    def test_stacks_that_say_they_are_huge_are_refused(
        self, tags: dict[str, int], message: str, tmp_path: Path
    ) -> None:
        path = tmp_path / "v.tif"
        settings = {"metadata": None, "photometric": "minisblack"}
        tifffile.imwrite(path, voxels(), compression="zlib", **settings)
        with tifffile.TiffFile(path, mode="r+") as file:
            for page in file.pages:
                for tag, n in tags.items():
                    page.tags[tag].overwrite(n, dtype="I", erase=False)
        with pytest.raises(InputError, match=message):
            open_volume(path)

    @pytest.mark.parametrize("is_slices", [False, True])
    def test_strips_that_unpack_to_far_more_than_their_pixels_are_refused(
        self, is_slices: bool, tmp_path: Path
    ) -> None:
        packed = deflated_zeros(2**29)
        settings = {"dtype": "u1", "compression": "zlib", "photometric": "minisblack"}

        def read() -> None:
            shape = SHAPE[1:] if is_slices else SHAPE
            for z in range(2 if is_slices else 1):
                pieces = iter([packed] * (1 if is_slices else SHAPE[0]))
                tifffile.imwrite(tmp_path / f"s{z}.tif", pieces, shape=shape, **settings)
            with pytest.raises((InputError, JobError), match="far more than the 580 bytes"):
                open_volume(tmp_path if is_slices else tmp_path / "s0.tif").array[:1, :4, :4]

        assert grown(read) < 2**27

    @pytest.mark.parametrize("suffix", ["png", "tif"])
    def test_slices_that_would_unpack_to_more_than_the_memory_are_refused(
        self, suffix: str, tmp_path: Path
    ) -> None:
        for z in range(2):
            path = tmp_path / f"s{z}.{suffix}"
            settings = {"compression": "tiff_deflate"} if suffix == "tif" else {}
            Image.fromarray(voxels()[z]).save(path, **settings)
            content = bytearray(path.read_bytes())
            if suffix == "png":
                content[16:24] = (2**21).to_bytes(4, "big") * 2
                content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
                path.write_bytes(content)
                continue
            with tifffile.TiffFile(path, mode="r+") as file:
                for tag in ("ImageWidth", "ImageLength"):
                    file.pages[0].tags[tag].overwrite(2**21, dtype="I", erase=False)
        with pytest.raises(InputError, match=r"s0\.\w+ takes [\d,.]+ GiB to unpack"):
            open_volume(tmp_path)

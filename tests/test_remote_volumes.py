"""Volumes that are folders of chunks open alike from this machine and from a server."""

import gzip
import json
import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import product
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import numpy as np
import pytest
import tensorstore
import zarr

from napari_synapse_cl.data.crops.sources import fingerprint
from napari_synapse_cl.data.formats.locations import is_url, parse
from napari_synapse_cl.data.volumes import Volume, open_volume
from napari_synapse_cl.errors import InputError, JobError

SHAPE = (11, 20, 29)
CHUNK = (4, 8, 16)
CROP = (slice(3, 9), slice(5, 18), slice(7, 29))
SIZE = (40.0, 4.0, 5.0)

Level = tuple[np.ndarray, tuple[float, ...], tuple[int, ...]]


class RangeHandler(SimpleHTTPRequestHandler):
    """Sends files and, as servers of volumes do, parts of files."""

    protocol_version = "HTTP/1.1"
    missing = HTTPStatus.NOT_FOUND

    def send_error(self, code: int, *texts: Any) -> None:
        super().send_error(self.missing if code == HTTPStatus.NOT_FOUND else code, *texts)

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if asked is None or not path.is_file():
            super().do_GET()
            return
        content = path.read_bytes()
        first, last = (int(number) if number else None for number in asked.groups())
        start = len(content) - (last or 0) if first is None else first
        stop = len(content) if first is None or last is None else min(last + 1, len(content))
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(content)}")
        self.send_header("Content-Length", str(stop - start))
        self.end_headers()
        self.wfile.write(content[start:stop])


class HttpServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 100

    def __init__(self, *arguments: Any) -> None:
        self.connections: list[socket.socket] = []
        super().__init__(*arguments)

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        self.connections.append(connection)
        return connection, address

    def cut_connections(self) -> None:
        for connection in self.connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class Server:
    """A server of a folder, on this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        handler = partial(RangeHandler, directory=str(folder))
        self.server = HttpServer(("127.0.0.1", 0), handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def url(self, path: Path | str) -> str:
        inner = (self.folder / path).relative_to(self.folder).as_posix()
        return f"http://127.0.0.1:{self.server.server_port}/{inner}"

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.server.cut_connections()
        self.thread.join()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    yield server
    if server.thread.is_alive():
        server.stop()


@pytest.fixture(params=["here", "on a server"])
def located(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], str]:
    """How a path in the test's folder is written."""
    if request.param == "here":
        return lambda path: str(tmp_path / path)
    server: Server = request.getfixturevalue("server")
    return server.url


def voxels(dtype: str = "u1", shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    random = np.random.default_rng(0)
    if np.dtype(dtype).kind == "f":
        return random.normal(size=shape).astype(dtype)
    info = np.iinfo(dtype)
    return random.integers(info.min, info.max, shape, dtype=np.dtype(dtype).newbyteorder("="))


def halved(array: np.ndarray, factor: tuple[int, ...]) -> np.ndarray:
    return array[tuple(slice(None, None, step) for step in factor)]


def check(volume: Volume, expected: np.ndarray) -> None:
    """Check a crop, the whole, and that the volume's location leads to the same."""
    np.testing.assert_array_equal(volume.array[CROP], expected[CROP])
    assert volume.location is not None
    again = open_volume(volume.location)
    np.testing.assert_array_equal(again.array[:, :, :], expected)
    assert replace(again, array=volume.array, name=volume.name) == volume


def write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def blocks(shape: tuple[int, ...], block: tuple[int, ...]) -> Iterator[tuple[slice, ...]]:
    counts = [range(0, n, step) for n, step in zip(shape, block, strict=True)]
    for starts in product(*counts):
        yield tuple(
            slice(start, min(start + step, n))
            for start, step, n in zip(starts, block, shape, strict=True)
        )


def write_zarr(path: Path, array: np.ndarray, attributes: dict | None = None, **how: Any) -> None:
    """Write an array with zarr-python, in chunks that do not divide it."""
    chunks = (*(1,) * (array.ndim - 3), *CHUNK)
    made = zarr.create_array(str(path), data=array, chunks=chunks, attributes=attributes, **how)
    assert made.shape == array.shape


def write_n5(path: Path, array: np.ndarray, compressed: bool = True, **attributes: Any) -> None:
    """Write a dataset by the published layout: big-endian blocks, axes as x, y, z."""
    described = {
        "dimensions": array.shape[::-1],
        "blockSize": CHUNK[::-1],
        "dataType": array.dtype.name,
        "compression": {"type": "gzip", "level": -1} if compressed else {"type": "raw"},
    }
    write_json(path / "attributes.json", {**described, **attributes})
    for block in blocks(array.shape, CHUNK):
        values = array[block]
        content = values.astype(array.dtype.newbyteorder(">")).tobytes()
        places = [part.start // step for part, step in zip(block, CHUNK, strict=True)][::-1]
        file = path.joinpath(*map(str, places))
        file.parent.mkdir(parents=True, exist_ok=True)
        header = struct.pack(">HH3I", 0, 3, *values.shape[::-1])
        file.write_bytes(header + (gzip.compress(content) if compressed else content))


def write_precomputed(path: Path, levels: list[Level], encoding: str = "raw") -> None:
    """Write a volume by the published layout; levels are arrays, voxel sizes and offsets."""
    scales = []
    for array, size, offset in levels:
        key = "_".join(f"{n:g}" for n in size[::-1])
        scales.append(
            {
                "key": key,
                "resolution": size[::-1],
                "size": array.shape[::-1],
                "voxel_offset": offset[::-1],
                "chunk_sizes": [CHUNK[::-1]],
                "encoding": encoding,
            }
        )
        for block in blocks(array.shape, CHUNK):
            begins = [part.start + o for part, o in zip(block, offset, strict=True)][::-1]
            ends = [part.stop + o for part, o in zip(block, offset, strict=True)][::-1]
            name = "_".join(f"{a}-{b}" for a, b in zip(begins, ends, strict=True))
            file = path / key / name
            file.parent.mkdir(parents=True, exist_ok=True)
            values = array[block]
            if encoding == "jpeg":
                flat = values.reshape(-1, values.shape[-1])
                imageio.imwrite(file, flat, extension=".jpg", quality=100)
            else:
                file.write_bytes(values.astype(array.dtype.newbyteorder("<")).tobytes())
    info = {
        "@type": "neuroglancer_multiscale_volume",
        "type": "image",
        "data_type": levels[0][0].dtype.name,
        "num_channels": 1,
        "scales": scales,
    }
    write_json(path / "info", info)


def ome(version: str, levels: list[tuple[list, list | None]], **more: Any) -> dict[str, Any]:
    """Return metadata as the specification of OME-Zarr has it."""
    axes = more.pop("axes", None) or [
        {"name": name, "type": "space", "unit": "nanometer"} for name in "zyx"
    ]
    datasets = []
    for i, (scale, translation) in enumerate(levels):
        steps: list[dict[str, Any]] = [{"type": "scale", "scale": scale}]
        if translation is not None:
            steps.append({"type": "translation", "translation": translation})
        datasets.append({"path": f"s{i}", "coordinateTransformations": steps})
    multiscales = [{"axes": axes, "datasets": datasets, "name": "em", **more}]
    if version == "0.4":
        return {"multiscales": [{**multiscales[0], "version": "0.4"}]}
    return {"ome": {"version": version, "multiscales": multiscales}}


class TestZarr:
    @pytest.mark.parametrize(
        ("how", "dtype"),
        [
            ({"zarr_format": 2}, "u1"),
            ({"zarr_format": 2, "compressors": None}, ">u2"),
            ({"zarr_format": 2}, "f4"),
            ({"zarr_format": 3}, "u2"),
            ({"zarr_format": 3, "shards": (8, 16, 16)}, "f4"),
            ({"zarr_format": 3}, "u8"),
        ],
        ids=str,
    )
    def test_an_array_opens(
        self, how: dict, dtype: str, located: Callable[[str], str], tmp_path: Path
    ) -> None:
        write_zarr(tmp_path / "v.zarr", voxels(dtype).astype(dtype), **how)
        volume = open_volume(located("v.zarr"))
        assert volume.name == "v.zarr"
        assert volume.voxel_size is None
        check(volume, voxels(dtype))

    @pytest.mark.parametrize("zarr_format", [2, 3])
    def test_the_only_array_of_a_group_needs_no_name(
        self, zarr_format: int, tmp_path: Path
    ) -> None:
        group = zarr.open_group(tmp_path / "g.zarr", mode="w", zarr_format=zarr_format)
        group.create_array("volumes/raw", data=voxels(), chunks=CHUNK)
        group.create_array("z", shape=(11,), dtype="f4")
        for path in (tmp_path / "g.zarr", tmp_path / "g.zarr/volumes/raw"):
            volume = open_volume(path)
            assert volume.location == str(tmp_path / "g.zarr/volumes/raw")
            check(volume, voxels())

    @pytest.mark.filterwarnings("ignore:Consolidated metadata")
    @pytest.mark.parametrize("zarr_format", [2, 3])
    def test_of_several_arrays_one_must_be_named(
        self, zarr_format: int, server: Server, tmp_path: Path
    ) -> None:
        group = zarr.open_group(tmp_path / "g.zarr", mode="w", zarr_format=zarr_format)
        for name in ("raw", "labels/cells"):
            group.create_array(name, data=voxels())
        told = r"labels/cells, raw; name one, as in .*g\.zarr/labels/cells"
        with pytest.raises(InputError, match=told):
            open_volume(tmp_path / "g.zarr")
        with pytest.raises(InputError, match=r"name the array in it, as in .*g\.zarr/NAME"):
            open_volume(server.url("g.zarr"))
        zarr.consolidate_metadata(tmp_path / "g.zarr", zarr_format=zarr_format)
        with pytest.raises(InputError, match=told):
            open_volume(server.url("g.zarr"))

    @pytest.mark.parametrize("zarr_format", [2, 3])
    def test_voxel_size_and_offset_of_funlib_are_read(
        self, zarr_format: int, tmp_path: Path
    ) -> None:
        for attributes, size in [
            ({"resolution": SIZE, "offset": [-80, 8, 10]}, SIZE),
            ({"voxel_size": SIZE, "offset": [-80, 8, 10], "units": ["nm"] * 3}, SIZE),
            ({"voxel_size": SIZE, "offset": [-80, 8, 10], "units": ["", "", ""]}, None),
        ]:
            path = tmp_path / "v.zarr"
            write_zarr(path, voxels(), attributes, zarr_format=zarr_format, overwrite=True)
            volume = open_volume(path)
            assert (volume.voxel_size, volume.offset) == (size, (-2, 2, 2))
            check(volume, voxels())

    def test_axes_are_taken_by_their_names(self, tmp_path: Path) -> None:
        array = np.ascontiguousarray(voxels().transpose(2, 1, 0))
        write_zarr(tmp_path / "v.zarr", array, dimension_names=["x", "y", "z"])
        check(open_volume(tmp_path / "v.zarr"), voxels())
        write_zarr(tmp_path / "c.zarr", voxels()[None], dimension_names=["c", "z", "y", "x"])
        check(open_volume(tmp_path / "c.zarr"), voxels())
        write_zarr(tmp_path / "cc.zarr", np.stack([voxels()] * 2))
        with pytest.raises(InputError, match="one channel"):
            open_volume(tmp_path / "cc.zarr")

    def test_missing_chunks_hold_the_fill_value(self, tmp_path: Path) -> None:
        write_zarr(tmp_path / "v.zarr", voxels(), zarr_format=2, fill_value=7)
        (tmp_path / "v.zarr/1.0.0").unlink()
        expected = voxels()
        expected[4:8, :8, :16] = 7
        check(open_volume(tmp_path / "v.zarr"), expected)

    @pytest.mark.parametrize(
        ("zarr_format", "chunk"), [(2, "1.0.0"), (3, "c/1/0/0")], ids=["v2", "v3"]
    )
    @pytest.mark.parametrize("damage", [b"", b"broken", "cut off"])
    def test_a_damaged_chunk_is_told_with_its_place(
        self,
        zarr_format: int,
        chunk: str,
        damage: bytes | str,
        located: Callable[[str], str],
        tmp_path: Path,
    ) -> None:
        write_zarr(tmp_path / "v.zarr", voxels("u2"), zarr_format=zarr_format)
        file = tmp_path / "v.zarr" / chunk
        file.write_bytes(file.read_bytes()[:-50] if isinstance(damage, str) else damage)
        volume = open_volume(located("v.zarr"))
        np.testing.assert_array_equal(volume.array[:4], voxels("u2")[:4])
        with pytest.raises(JobError, match=r"v\.zarr could not be read at z, y, x = 2:6, 1:3, 0:4"):
            volume.array[2:6, 1:3, 0:4]

    @pytest.mark.parametrize("content", ["{", "{}", '{"zarr_format": 9}'])
    @pytest.mark.parametrize("name", ["zarr.json", ".zarray", "info"])
    def test_damaged_metadata_is_refused_in_one_line(
        self, content: str, name: str, tmp_path: Path
    ) -> None:
        (tmp_path / "v").mkdir()
        (tmp_path / "v" / name).write_text(content)
        with pytest.raises(InputError, match="/v") as raised:
            open_volume(tmp_path / "v")
        assert "\n" not in str(raised.value)
        assert "tensorstore_spec" not in str(raised.value)


class TestOmeZarr:
    @pytest.mark.parametrize(("version", "zarr_format"), [("0.4", 2), ("0.5", 3)])
    def test_the_level_that_fits_is_opened(
        self, version: str, zarr_format: int, located: Callable[[str], str], tmp_path: Path
    ) -> None:
        sizes = [[40, 4, 5], [40, 8, 10], [80, 16, 20]]
        # Of the corner at -2, 5, 3 voxels; centres of coarse voxels lie farther in.
        shifts = [[-80, 20, 15], [-80, 22, 17.5], [-60, 26, 22.5]]
        metadata = ome(version, list(zip(sizes, shifts, strict=True)))
        group = zarr.open_group(
            tmp_path / "v.zarr", mode="w", zarr_format=zarr_format, attributes=metadata
        )
        factors = [(1, 1, 1), (1, 2, 2), (2, 4, 4)]
        arrays = [halved(voxels("u2", (22, 80, 116)), factor) for factor in factors]
        for i, array in enumerate(arrays):
            group.create_array(f"s{i}", data=array, chunks=(8, 32, 32))
        for wanted, level in [
            (None, 0),
            ((40, 7.93, 9.91), 1),
            ((40, 7.9, 9.9), 0),
            ((8, 8, 8), 0),
            ((500, 500, 500), 2),
        ]:
            volume = open_volume(located("v.zarr"), voxel_size=wanted)
            assert volume.location == located(f"v.zarr/s{level}")
            assert volume.voxel_size == tuple(sizes[level])
            assert volume.factor == factors[level]
            offset = [-2, 5, 3]
            assert volume.offset == tuple(
                round(o / f) for o, f in zip(offset, factors[level], strict=True)
            )
            check(volume, arrays[level])

    def test_axes_of_time_and_channel_are_dropped_and_units_converted(self, tmp_path: Path) -> None:
        axes = [
            {"name": "t", "type": "time", "unit": "second"},
            {"name": "c", "type": "channel"},
            *({"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"),
        ]
        outer = [{"type": "scale", "scale": [1, 1, 10, 1, 1]}]
        metadata = ome(
            "0.5",
            [([1, 1, 0.004, 0.004, 0.005], [0, 0, 0.008, 0.008, 0.01])],
            axes=axes,
            coordinateTransformations=outer,
        )
        zarr.open_group(tmp_path / "v.zarr", mode="w", attributes=metadata)
        write_zarr(tmp_path / "v.zarr/s0", voxels()[None, None])
        volume = open_volume(tmp_path / "v.zarr")
        assert volume.voxel_size == pytest.approx(SIZE)
        assert volume.offset == (2, 2, 2)
        check(volume, voxels())

    def test_several_channels_are_refused(self, tmp_path: Path) -> None:
        axes = [{"name": "c", "type": "channel"}, *({"name": n, "type": "space"} for n in "zyx")]
        metadata = ome("0.4", [([1, 1, 1, 1], None)], axes=axes)
        zarr.open_group(tmp_path / "v.zarr", mode="w", zarr_format=2, attributes=metadata)
        write_zarr(tmp_path / "v.zarr/s0", np.stack([voxels()] * 3), zarr_format=2)
        with pytest.raises(InputError, match=r"3 × 11 × 20 × 29 \(c, z, y, x\).*one channel"):
            open_volume(tmp_path / "v.zarr")

    def test_without_units_the_level_is_known_and_not_its_size(self, tmp_path: Path) -> None:
        axes = [{"name": name, "type": "space"} for name in "zyx"]
        metadata = ome("0.4", [([2, 2, 2], None), ([4, 4, 4], None)], axes=axes)
        zarr.open_group(tmp_path / "v.zarr", mode="w", zarr_format=2, attributes=metadata)
        for i in range(2):
            write_zarr(tmp_path / f"v.zarr/s{i}", voxels(), zarr_format=2)
        assert open_volume(tmp_path / "v.zarr").location == str(tmp_path / "v.zarr/s0")
        coarse = open_volume(tmp_path / "v.zarr/s1")
        assert (coarse.voxel_size, coarse.factor, coarse.offset) == (None, (2, 2, 2), (0, 0, 0))

    def test_of_version_0_2_the_first_level_is_opened(self, tmp_path: Path) -> None:
        metadata = {"multiscales": [{"version": "0.2", "datasets": [{"path": "0"}]}]}
        zarr.open_group(tmp_path / "v.zarr", mode="w", zarr_format=2, attributes=metadata)
        write_zarr(tmp_path / "v.zarr/0", voxels()[None, None], zarr_format=2)
        volume = open_volume(tmp_path / "v.zarr")
        assert volume.voxel_size is None
        check(volume, voxels())

    def test_one_among_other_groups_counts_as_one(self, tmp_path: Path) -> None:
        metadata = ome("0.5", [([40, 4, 5], None), ([80, 8, 10], None)])
        zarr.open_group(tmp_path / "v.zarr", mode="w")
        zarr.open_group(tmp_path / "v.zarr/em/raw", mode="w", attributes=metadata)
        for i in range(2):
            write_zarr(tmp_path / f"v.zarr/em/raw/s{i}", voxels())
        volume = open_volume(tmp_path / "v.zarr", voxel_size=(80, 8, 10))
        assert volume.location == str(tmp_path / "v.zarr/em/raw/s1")
        check(volume, voxels())


class TestN5:
    @pytest.mark.parametrize(
        ("dtype", "compressed"), [("uint8", False), ("uint16", True), ("float32", True)]
    )
    def test_a_dataset_opens_along_z_y_x(
        self, dtype: str, compressed: bool, located: Callable[[str], str], tmp_path: Path
    ) -> None:
        resolution = {"dimensions": [0.005, 0.004, 0.04], "unit": "um"}
        path = tmp_path / "v.n5/volumes/raw"
        write_n5(path, voxels(dtype), compressed, pixelResolution=resolution)
        volume = open_volume(located("v.n5/volumes/raw"))
        assert volume.voxel_size == pytest.approx(SIZE)
        assert volume.name == "v.n5/volumes/raw"
        check(volume, voxels(dtype))

    def test_groups_need_no_metadata(self, tmp_path: Path) -> None:
        write_n5(tmp_path / "v.n5/volumes/raw", voxels())
        for inner in ("v.n5", "v.n5/volumes"):
            check(open_volume(tmp_path / inner), voxels())
        write_n5(tmp_path / "v.n5/cells", voxels())
        with pytest.raises(InputError, match="holds cells, volumes/raw; name one"):
            open_volume(tmp_path / "v.n5")

    @pytest.mark.parametrize(
        ("located", "way"),
        [
            ("here", "n5-viewer"),
            ("here", "scales"),
            ("here", "pixelResolution"),
            ("here", "OpenOrganelle"),
            ("on a server", "OpenOrganelle"),
        ],
        indirect=["located"],
    )
    def test_the_level_that_fits_is_opened(
        self, way: str, located: Callable[[str], str], tmp_path: Path
    ) -> None:
        arrays = [voxels("uint16", (22, 40, 58)), voxels("uint16", (22, 20, 29))]
        around: dict[str, Any] = {}
        own: list[dict[str, Any]] = [{}, {}]
        if way == "n5-viewer":
            resolution = {"dimensions": [5, 4, 40], "unit": "nm"}
            own = [
                {"pixelResolution": resolution, "downsamplingFactors": factors}
                for factors in ([1, 1, 1], [2, 2, 1])
            ]
        elif way == "scales":
            around = {
                "pixelResolution": {"dimensions": [5, 4, 40], "unit": "nm"},
                "scales": [[1, 1, 1], [2, 2, 1]],
            }
        elif way == "pixelResolution":
            own = [
                {"pixelResolution": {"dimensions": size, "unit": "nm"}}
                for size in ([5, 4, 40], [10, 8, 40])
            ]
        else:
            units = {"axes": ["z", "y", "x"], "units": ["nm"] * 3}
            own = [
                {"transform": {"scale": scale, "translate": shift, **units}}
                for scale, shift in [([40, 4, 5], [80, 4, 0]), ([40, 8, 10], [80, 6, 2.5])]
            ]
            datasets = [{"path": "s0"}, {"path": "s1"}]
            around = {"multiscales": [{"datasets": datasets, "name": "em"}]}
        write_json(tmp_path / "v.n5/em/attributes.json", around)
        for i, array in enumerate(arrays):
            write_n5(tmp_path / f"v.n5/em/s{i}", array, **own[i])
        fine = open_volume(located("v.n5/em"))
        assert (fine.voxel_size, fine.factor) == (SIZE, (1, 1, 1))
        check(fine, arrays[0])
        coarse = open_volume(located("v.n5/em"), voxel_size=(40, 10, 10))
        assert (coarse.voxel_size, coarse.factor) == ((40, 8, 10), (1, 2, 2))
        if way == "OpenOrganelle":
            assert (fine.offset, coarse.offset) == ((2, 1, 0), (2, 0, 0))
        check(coarse, arrays[1])

    @pytest.mark.parametrize(
        ("attributes", "offset"),
        [
            ({"resolution": [5, 4, 40], "offset": [10, 8, -80]}, (-2, 2, 2)),
            ({"offset": [10, 8, -80]}, (-80, 8, 10)),
        ],
    )
    def test_the_offset_is_read(self, attributes: dict, offset: tuple, tmp_path: Path) -> None:
        write_n5(tmp_path / "v.n5", voxels(), **attributes)
        assert open_volume(tmp_path / "v.n5").offset == offset

    def test_a_damaged_block_is_told_with_its_place(self, tmp_path: Path) -> None:
        write_n5(tmp_path / "v.n5", voxels())
        (tmp_path / "v.n5/0/1/2").write_bytes(b"broken")
        with pytest.raises(JobError, match=r"z, y, x = 8:11, 0:20, 0:29.*damaged or cut off"):
            open_volume(tmp_path / "v.n5").array[8:]


class TestPrecomputed:
    @pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
    def test_levels_with_negative_offsets_open(
        self, dtype: str, located: Callable[[str], str], tmp_path: Path
    ) -> None:
        coarse = voxels(dtype, (11, 12, 29))
        write_precomputed(
            tmp_path / "em",
            [(voxels(dtype), SIZE, (-3, 7, 100)), (coarse, (40, 8, 10), (-3, 3, 50))],
        )
        volume = open_volume(located("em"))
        assert (volume.voxel_size, volume.offset, volume.factor) == (SIZE, (-3, 7, 100), (1, 1, 1))
        assert volume.location == located("em/5_4_40")
        check(volume, voxels(dtype))
        volume = open_volume(located("em"), voxel_size=(40, 8, 10))
        assert (volume.offset, volume.factor) == ((-3, 3, 50), (1, 2, 2))
        check(volume, coarse)

    @pytest.mark.parametrize("form", ["precomputed://{}", "{}|neuroglancer-precomputed:"])
    def test_the_format_may_be_named(
        self, form: str, located: Callable[[str], str], tmp_path: Path
    ) -> None:
        write_precomputed(tmp_path / "em", [(voxels(), SIZE, (0, 0, 0))])
        volume = open_volume(form.format(located("em")))
        assert volume.location == f"precomputed://{located('em')}/5_4_40"
        check(volume, voxels())
        with pytest.raises(InputError, match=r"no (array|volume)"):
            open_volume(f"n5://{located('em')}")

    def test_jpeg_is_read(self, tmp_path: Path) -> None:
        z, y, x = np.indices(SHAPE)
        smooth = (8 * z + 3 * y + 2 * x).astype(np.uint8)
        write_precomputed(tmp_path / "em", [(smooth, SIZE, (0, 0, 0))], "jpeg")
        difference = open_volume(tmp_path / "em").array[:, :, :].astype(int) - smooth
        assert np.abs(difference).max() <= 4

    @pytest.mark.parametrize("encoding", ["raw", "compressed_segmentation"])
    def test_shards_and_segmentations_are_read(
        self, encoding: str, located: Callable[[str], str], tmp_path: Path
    ) -> None:
        cells = voxels("u8", (11, 20, 29)) % 1000
        scale = {
            "key": "s",
            "size": SHAPE[::-1],
            "resolution": SIZE[::-1],
            "chunk_size": CHUNK[::-1],
            "encoding": encoding,
            "sharding": {
                "@type": "neuroglancer_uint64_sharded_v1",
                "preshift_bits": 1,
                "minishard_bits": 1,
                "shard_bits": 1,
                "hash": "identity",
            },
        }
        if encoding == "compressed_segmentation":
            scale["compressed_segmentation_block_size"] = (8, 8, 8)
        store = {"driver": "file", "path": f"{tmp_path}/cells/"}
        kinds = {"type": "segmentation", "data_type": "uint64", "num_channels": 1}
        spec = {"driver": "neuroglancer_precomputed", "kvstore": store, "scale_metadata": scale}
        written = tensorstore.open({**spec, "multiscale_metadata": kinds}, create=True).result()
        written[..., 0].write(cells.T).result()
        check(open_volume(located("cells")), cells)

    def test_a_mesh_is_no_volume(self, tmp_path: Path) -> None:
        write_json(tmp_path / "mesh/info", {"@type": "neuroglancer_multilod_draco"})
        with pytest.raises(InputError, match="neuroglancer_multilod_draco"):
            open_volume(tmp_path / "mesh")

    def test_a_chunk_that_is_cut_off_is_told(self, tmp_path: Path) -> None:
        write_precomputed(tmp_path / "em", [(voxels(), SIZE, (0, 0, 0))])
        chunk = tmp_path / "em/5_4_40/0-16_0-8_0-4"
        chunk.write_bytes(chunk.read_bytes()[:-1])
        with pytest.raises(JobError, match="could not be read at z, y, x = 0:1, 0:1, 0:1"):
            open_volume(tmp_path / "em").array[0, 0, 0]


class TestServers:
    @pytest.mark.parametrize("path", ["none", "none.zarr", "none.n5", "v.zarr/none"])
    def test_what_is_not_there_is_told(self, path: str, server: Server, tmp_path: Path) -> None:
        write_zarr(tmp_path / "v.zarr", voxels())
        with pytest.raises(InputError, match=f"no volume http://.*/{path}"):
            open_volume(server.url(path))

    def test_one_that_denies_what_is_not_there_is_read(
        self, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(RangeHandler, "missing", HTTPStatus.FORBIDDEN)
        write_zarr(tmp_path / "v.zarr", voxels())
        check(open_volume(server.url("v.zarr")), voxels())
        with pytest.raises(InputError, match=r"http://.*/none may not be read"):
            open_volume(server.url("none"))

    @pytest.mark.parametrize("name", ["v.tif", "v.h5", "v.mrc", "v.npy"])
    def test_single_files_are_to_be_downloaded(self, name: str, server: Server) -> None:
        with pytest.raises(InputError, match="download it"):
            open_volume(server.url(name))

    def test_a_server_that_dies_is_told_with_the_place(
        self, server: Server, tmp_path: Path
    ) -> None:
        write_zarr(tmp_path / "v.zarr", voxels())
        location = server.url("v.zarr")
        volume = open_volume(location)
        np.testing.assert_array_equal(volume.array[:4], voxels()[:4])
        server.stop()
        np.testing.assert_array_equal(volume.array[:4], voxels()[:4])
        with pytest.raises(
            JobError, match=r"v\.zarr could not be read at z, y, x = 8:9.*server may be down"
        ):
            volume.array[8]
        with pytest.raises(InputError, match=r"http://.*v\.zarr cannot be reached"):
            open_volume(location)

    def test_other_kinds_of_urls_are_refused(self) -> None:
        with pytest.raises(InputError, match=r"ftp://x/v.*http, https, gs, s3 and file can"):
            open_volume("ftp://x/v")
        with pytest.raises(InputError, match=r"names no format.*precomputed.*n5"):
            open_volume("http://x/v|dicom:")

    def test_a_fingerprint_changes_with_the_metadata(
        self, located: Callable[[str], str], tmp_path: Path
    ) -> None:
        found = []
        for shift in (0, 1):
            write_precomputed(tmp_path / "em", [(voxels(), SIZE, (shift, 0, 0))])
            found += [fingerprint(located("em")), fingerprint(located("em/5_4_40"))]
        assert len({json.dumps(values) for values in found}) == 4
        assert fingerprint(located("em")) == found[2]


class TestLocations:
    @pytest.mark.parametrize(
        ("text", "base", "format_name"),
        [
            ("a/v.zarr/", "a/v.zarr", None),
            ("file:///a/v%20w.zarr", "/a/v w.zarr", None),
            ("zarr:///a/v", "/a/v", "zarr"),
            ("zarr3://file:///a/v", "/a/v", "zarr3"),
            ("n5://s3://bucket/v.n5", "s3://bucket/v.n5", "n5"),
            ("precomputed://gs://b/v", "gs://b/v", "precomputed"),
            ("gs://b/v|neuroglancer-precomputed:", "gs://b/v", "precomputed"),
            ("https://h/v|zarr2:a/b", "https://h/v/a/b", "zarr2"),
        ],
    )
    def test_paths_and_urls_may_name_their_format(
        self, text: str, base: str, format_name: str | None
    ) -> None:
        location = parse(text)
        assert (location.base, location.format) == (base, format_name)
        assert parse(location.text) == location

    def test_a_query_stays_behind(self) -> None:
        location = parse("https://h/a/v.zarr?token=1").inside("s0")
        assert location.base == "https://h/a/v.zarr/s0?token=1"
        assert location.name == "v.zarr/s0"
        around = [(folder.base, path) for folder, path in location.enclosing()]
        assert around[:2] == [
            ("https://h/a/v.zarr?token=1", "s0"),
            ("https://h/a?token=1", "v.zarr/s0"),
        ]

    def test_urls_are_told_from_paths(self) -> None:
        assert all(map(is_url, ["https://h/v", "gs://b/v", "precomputed://gs://b/v"]))
        assert not any(map(is_url, ["v.tif", "/a/v.zarr", r"C:\a\v.tif"]))

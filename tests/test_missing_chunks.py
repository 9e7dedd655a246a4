"""A chunk that is there and cannot be read is told; only one that is missing is the fill value."""

import gzip
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import h5py
import numcodecs
import numpy as np
import pytest
import tensorstore

from conftest import deflated_zeros, grown
from napari_synapse_cl.data.volumes import Volume, open_volume
from napari_synapse_cl.errors import InputError, JobError

SHAPE = (20, 32, 32)
VOXELS = np.random.default_rng(0).integers(1, 256, SHAPE, dtype=np.uint8)
FIRST = {"zarr": "0.0.0", "zarr3": "c/0/0/0", "n5": "0/0/0", "precomputed": "8_8_40/0-16_0-16_0-16"}


def write(
    folder: Path, kind: str, voxels: np.ndarray = VOXELS, encoding: str = "raw", **scale: Any
) -> None:
    """Write a volume in chunks of 16³ voxels with tensorstore."""
    store = {"driver": "file", "path": str(folder)}
    if kind == "precomputed":
        described = {"encoding": encoding, "chunk_size": [16] * 3, "resolution": [8, 8, 40]}
        described |= {"size": voxels.shape[::-1], **scale}
        if encoding == "compressed_segmentation":
            described["compressed_segmentation_block_size"] = [8] * 3
        image = {"type": "segmentation", "data_type": str(voxels.dtype), "num_channels": 1}
        spec = {"driver": "neuroglancer_precomputed", "multiscale_metadata": image}
        spec["scale_metadata"] = described
        made = tensorstore.open({**spec, "kvstore": store}, create=True).result()
        made[..., 0].write(voxels.T).result()
        return
    stored = voxels.T if kind == "n5" else voxels
    made = tensorstore.open(
        {"driver": kind, "kvstore": store, **scale},
        create=True,
        dtype=voxels.dtype,
        shape=stored.shape,
        chunk_layout=tensorstore.ChunkLayout(chunk_shape=[16] * 3),
    ).result()
    made.write(stored).result()


def whole(volume: Volume) -> np.ndarray:
    return np.asarray(volume.array[:, :, :])


def pack(folder: Path, suffix: str = ".gz", every: int = 1) -> None:
    """Compress chunks as CloudVolume keeps them in folders."""
    for file in sorted(folder.iterdir())[::every]:
        file.with_name(file.name + suffix).write_bytes(gzip.compress(file.read_bytes()))
        file.unlink()


@contextmanager
def served(folder: Path, denied: str | None = None) -> Iterator[str]:
    """Serve a folder on this machine; one path is denied."""

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            if denied is not None and self.path.endswith(denied):
                self.send_error(403)
                return
            super().do_GET()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


class TestPackedChunks:
    @pytest.mark.parametrize("every", [1, 2])
    @pytest.mark.parametrize("encoding", ["raw", "compressed_segmentation"])
    def test_chunks_that_end_in_gz_are_unpacked(
        self, encoding: str, every: int, tmp_path: Path
    ) -> None:
        voxels = VOXELS.astype("u8") // 64 + 2**60 if encoding != "raw" else VOXELS
        write(tmp_path / "v", "precomputed", voxels, encoding, voxel_offset=[3, 5, 7])
        pack(tmp_path / "v/8_8_40", every=every)
        volume = open_volume(tmp_path / "v")
        np.testing.assert_array_equal(whole(volume), voxels)
        np.testing.assert_array_equal(volume.array[3:19, 15:18, 9:30], voxels[3:19, 15:18, 9:30])

    def test_so_they_are_on_a_server(self, tmp_path: Path) -> None:
        write(tmp_path / "v", "precomputed")
        pack(tmp_path / "v/8_8_40", every=2)
        with served(tmp_path) as url:
            np.testing.assert_array_equal(whole(open_volume(f"{url}/v")), VOXELS)

    @pytest.mark.parametrize("suffix", [".br", ".zstd", ".other"])
    def test_other_suffixes_are_told(self, suffix: str, tmp_path: Path) -> None:
        write(tmp_path / "v", "precomputed")
        pack(tmp_path / "v/8_8_40", suffix)
        volume = open_volume(tmp_path / "v")
        with pytest.raises(JobError, match=rf"0-16_0-16_0-16\{suffix} .*cannot be read here"):
            volume.array[:4, :4, :4]

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (gzip.compress(VOXELS[:16].tobytes())[:-20], "is damaged"),
            (gzip.compress(bytes(100)), "is damaged"),
            (b"", "is damaged"),
            (gzip.compress(bytes(2**26)), "is damaged: .* far more than the 4,096 bytes"),
        ],
        ids=["cut off", "too short", "empty", "far too long"],
    )
    def test_damaged_ones_are_told(self, content: bytes, message: str, tmp_path: Path) -> None:
        write(tmp_path / "v", "precomputed")
        first = tmp_path / "v" / FIRST["precomputed"]
        first.unlink()
        first.with_name(f"{first.name}.gz").write_bytes(content)
        with pytest.raises(JobError, match=rf"0-16_0-16_0-16\.gz {message}"):
            whole(open_volume(tmp_path / "v"))


class TestWhatLiesInTheirPlace:
    @pytest.mark.parametrize("kind", FIRST)
    @pytest.mark.parametrize("what", ["nothing", "a folder", "a broken link", "an empty file"])
    def test_only_what_is_missing_holds_the_fill_value(
        self, what: str, kind: str, tmp_path: Path
    ) -> None:
        write(tmp_path / "v", kind)
        first = tmp_path / "v" / FIRST[kind]
        first.unlink()
        if what == "a folder":
            first.mkdir()
        elif what == "a broken link":
            first.symlink_to("moved")
        elif what == "an empty file":
            first.write_bytes(b"")
        volume = open_volume(tmp_path / "v")
        np.testing.assert_array_equal(volume.array[16:], VOXELS[16:])
        if what == "nothing":
            assert not volume.array[:16, :16, :16].any()
            np.testing.assert_array_equal(volume.array[:, 16:], VOXELS[:, 16:])
            return
        with pytest.raises(JobError, match=r"0[./_-]"):
            volume.array[:16, :16, :16]

    @pytest.mark.parametrize("kind", ["zarr", "zarr3"])
    def test_chunks_that_are_named_otherwise_are_told(self, kind: str, tmp_path: Path) -> None:
        write(tmp_path / "v", kind)
        if kind == "zarr":
            for file in (tmp_path / "v").glob("*.*.*"):
                moved = tmp_path / "v" / file.name.replace(".", "/")
                moved.parent.mkdir(parents=True, exist_ok=True)
                file.rename(moved)
        else:
            (tmp_path / "v/c").rename(tmp_path / "v/moved")
            for name in os.listdir(tmp_path / "v/moved"):
                (tmp_path / "v/moved" / name).rename(tmp_path / "v" / name)
        with pytest.raises(JobError, match=r"0/0/0 lies where the metadata have .*separator"):
            open_volume(tmp_path / "v").array[:4, :4, :4]

    def test_a_file_in_the_place_of_a_folder_is_told(self, tmp_path: Path) -> None:
        write(tmp_path / "v.n5", "n5")
        for file in (tmp_path / "v.n5/0/0").iterdir():
            file.unlink()
        (tmp_path / "v.n5/0/0").rmdir()
        (tmp_path / "v.n5/0/0").write_bytes(b"lost")
        with pytest.raises(JobError, match=r"v\.n5/0/0 is there, and is no file that can be read"):
            open_volume(tmp_path / "v.n5").array[:4, :4, :4]

    def test_a_strange_file_among_shards_is_told(self, tmp_path: Path) -> None:
        sharding = {"@type": "neuroglancer_uint64_sharded_v1", "hash": "identity"}
        sharding |= {"preshift_bits": 0, "minishard_bits": 1, "shard_bits": 2}
        write(tmp_path / "v", "precomputed", sharding=sharding)
        np.testing.assert_array_equal(whole(open_volume(tmp_path / "v")), VOXELS)
        shard = min((tmp_path / "v/8_8_40").iterdir())
        shard.rename(shard.with_name(f"{shard.name}.gz"))
        with pytest.raises(JobError, match=r"\.shard\.gz lies among shards, and is none"):
            whole(open_volume(tmp_path / "v"))

    def test_one_that_a_server_denies_is_told(self, tmp_path: Path) -> None:
        write(tmp_path / "v", "zarr")
        with served(tmp_path, denied="/0.0.0") as url:
            volume = open_volume(f"{url}/v")
            np.testing.assert_array_equal(volume.array[16:], VOXELS[16:])
            with pytest.raises(JobError, match="403"):
                volume.array[:4, :4, :4]

    @pytest.mark.parametrize("kind", FIRST)
    def test_a_volume_without_any_chunk_says_so(self, kind: str, tmp_path: Path) -> None:
        write(tmp_path / "v", kind, np.zeros(SHAPE, np.uint8))
        for file in sorted((tmp_path / "v").rglob("*"), reverse=True):
            if file.is_dir():
                file.rmdir()
            elif file.name not in ("zarr.json", ".zarray", "attributes.json", "info"):
                file.unlink()
        ((text, level),) = open_volume(tmp_path / "v").messages
        assert level == "warning"
        assert "has no chunks at all" in text

    def test_so_does_a_dataset_that_was_never_written(self, tmp_path: Path) -> None:
        with h5py.File(tmp_path / "v.h5", "w") as file:
            file.create_dataset("raw", SHAPE, "u1", chunks=(4, 8, 8))
        ((text, _),) = open_volume(tmp_path / "v.h5").messages
        assert "v.h5/raw has no chunks at all" in text or "v.h5 has no chunks at all" in text


class TestBombs:
    """Chunks that unpack to far more than they are to hold end before the memory is full."""

    def test_of_zarr(self, tmp_path: Path) -> None:
        packed = numcodecs.Blosc().encode(bytes(2**28))
        write(tmp_path / "v", "zarr")
        (tmp_path / "v/0.0.0").write_bytes(packed)

        def read() -> None:
            with pytest.raises(JobError, match="far more than the 4,096 bytes of a chunk"):
                open_volume(tmp_path / "v").array[:4, :4, :4]

        assert grown(read) < 2**27

    @pytest.mark.parametrize("side", [16, 128])
    def test_of_hdf5(self, side: int, tmp_path: Path) -> None:
        packed = deflated_zeros(2**29)
        with h5py.File(tmp_path / "v.h5", "w") as file:
            chunks = (side,) * 3
            made = file.create_dataset("raw", (128,) * 3, "u1", chunks=chunks, compression=4)
            made.id.write_direct_chunk((0, 0, 0), packed)

        def read() -> None:
            with pytest.raises(JobError, match=r"far more than the .* bytes of a chunk"):
                open_volume(tmp_path / "v.h5").array[:4, :4, :4]

        assert grown(read) < 2**27

    def test_chunks_that_no_memory_holds_are_refused(self, tmp_path: Path) -> None:
        with h5py.File(tmp_path / "v.h5", "w") as file:
            file.create_dataset("huge", (10**6,) * 3, "u1", chunks=(8,) * 3)
        with pytest.raises(InputError, match="which no volume has"):
            open_volume(tmp_path / "v.h5/huge")
        (tmp_path / "v").mkdir()
        layout = '{"shape": [%(n)d, %(n)d, %(n)d], "chunks": [%(n)d, %(n)d, %(n)d], "order": "C", '
        rest = '"dtype": "|u1", "compressor": null, "filters": null, "fill_value": 0, '
        text = (layout + rest + '"zarr_format": 2}') % {"n": 20_000}
        (tmp_path / "v/.zarray").write_text(text)
        with pytest.raises(InputError, match=r"chunks of 7,450\.6 GiB, each of which is read"):
            open_volume(tmp_path / "v")

"""Shards whose volume lies on a server that fails, stalls, cuts answers off or keeps damage."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
import torch
import zarr

from conftest import as_flags
from napari_synapse_cl.config import Config
from napari_synapse_cl.pipeline.networks import make_model
from test_remote_volumes import RangeHandler

N = 80
CHUNK = 16


class Unreliable(RangeHandler):
    """Of twenty requests for chunks, fails one and cuts one off; it stalls in one of all."""

    troubles: ClassVar[set[str]] = set()
    numbers = count()
    is_down = threading.Event()

    def do_GET(self) -> None:  # noqa: N802
        if "/c/" not in self.path:
            super().do_GET()
            return
        number = next(self.numbers)
        if number % 20 == 3:
            self.troubles.add("failed")
            self.send_error(503)
        elif number == 9:
            self.troubles.add("stalled")
            self.is_down.wait(30)
            self.close_connection = True
        elif number % 20 == 15:
            self.troubles.add("cut off")
            content = Path(self.translate_path(self.path)).read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2])
            self.close_connection = True
        else:
            super().do_GET()


class QuietServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """Say nothing of clients that have left."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    numbers = np.random.default_rng(0)
    voxels = numbers.integers(0, 255, (64, 64, 64), dtype=np.uint8)
    zarr.create_array(tmp_path / "v.zarr", data=voxels, chunks=(CHUNK,) * 3)
    table = pd.DataFrame(numbers.integers(5, 59, (N, 3)), columns=["z", "y", "x"])
    table.to_parquet(tmp_path / "t.parquet")
    config = Config.from_values({"fmaps": 2, "n_convolutions": (1, 1), "crop_size": 8})
    torch.save(make_model(config).backbone.state_dict(), tmp_path / "n.pt")
    return tmp_path


@pytest.fixture
def url(folder: Path) -> Iterator[str]:
    handler = partial(Unreliable, directory=str(folder))
    server = QuietServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v.zarr"
    Unreliable.is_down.set()
    server.shutdown()
    server.server_close()
    thread.join()


def extract(folder: Path, image: Path | str, name: str) -> Path:
    settings = {
        "checkpoint": folder / "n.pt",
        "image": image,
        "synapses": folder / "t.parquet",
        "voxel_size": 10,
        "crop_size": 8,
        "layer_num": 3,
        "device": "cpu",
        "precision": "float32",
        "workers": 1,
        "shard_size": 20,
        "output": folder / name,
    }
    stalled = {"TENSORSTORE_CURL_LOW_SPEED_TIME_SECONDS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "napari_synapse_cl", "--extract_only", *as_flags(settings)],
        env={**os.environ, "OMP_NUM_THREADS": "1", **stalled},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return folder / name / "features"


def test_trouble_of_a_server_and_damage_in_it_leave_all_other_rows_as_they_are(
    folder: Path, url: str
) -> None:
    whole = pd.read_parquet(extract(folder, folder / "v.zarr", "here"))
    (damaged,) = (folder / "v.zarr" / "c" / "1" / "1").glob("1")
    damaged.write_bytes(b"\1" * 100)
    found = pd.read_parquet(extract(folder, url, "from_server"))
    assert Unreliable.troubles == {"failed", "stalled", "cut off"}
    places = found[["z", "y", "x"]].to_numpy()
    touches = ((places + 4 > CHUNK) & (places - 4 < 2 * CHUNK)).all(axis=1)
    assert touches.any()
    failed = pd.read_csv(folder / "from_server" / "failed.csv")
    assert set(failed["row"]) == set(found["row"][touches])
    assert failed["reason"].str.contains("could not be read").all()
    channels = ["L3_mean_000", "L3_mean_001"]
    assert found[touches][channels].isna().all().all()
    pd.testing.assert_frame_equal(found[~touches][channels], whole[~touches][channels])

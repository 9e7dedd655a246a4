"""What the tests share: small crops, networks and the FIB-SEM volumes for development."""

import json
import os
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from forks import Fork
from napari_synapse_cl.config import CropConfig
from napari_synapse_cl.data.arrays import nearest_voxel
from napari_synapse_cl.data.crops.sources import StreamedCrops
from napari_synapse_cl.data.parts import AXES, Part, Positions
from napari_synapse_cl.data.sample.volume import Sample, make_sample
from napari_synapse_cl.data.volumes import Volume
from napari_synapse_cl.runs.events import Event, from_line
from napari_synapse_cl.system import devices

# On tensors this small, threads take longer to agree than to compute.
torch.set_num_threads(1)

SMALL = {
    "crop_size": 16,
    "fmaps": 2,
    "proj_hidden_dim": 16,
    "proj_dim": 8,
    "batch_size": 4,
    "num_epochs": 2,
    "device": "cpu",
    "precision": "float32",
}
"""Settings of a training that takes a second."""

Files = tuple[Path, Path]


def crops_of(
    volume: Volume, positions: Positions, shape: tuple[int, int, int], **settings: object
) -> StreamedCrops:
    """Crops of one volume, as large as the network sees them unless the settings say otherwise."""
    config = CropConfig.model_validate(settings)
    if "crop_size" not in settings:
        # Smaller ones than a network takes are enough for most tests.
        config = config.model_copy(update={"crop_size": shape})
    return StreamedCrops([Part(volume)], positions, config, shape)


def positions_inside(table: pd.DataFrame, shape: tuple[int, int, int]) -> Positions:
    """The synapses of a table in voxels that lie inside a volume of some size."""
    voxels = nearest_voxel(table[list(AXES)])
    rows = np.flatnonzero(((voxels >= 0) & (voxels < shape)).all(axis=1))
    return Positions(voxels[rows].astype(np.int64), rows, len(table) - len(rows))


def as_flags(settings: dict[str, object]) -> list[str]:
    return [part for name, value in settings.items() for part in (f"--{name}", str(value))]


def wait_for(happened: Callable[[], bool]) -> None:
    """Wait until something has happened, and fail if it takes too long."""
    deadline = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def grown(job: Callable[[], None]) -> int:
    """Return by how many bytes the most memory of this process grew."""
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    job()
    return 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)


@contextmanager
def full_disk(free: int) -> Iterator[None]:
    """Let no file grow beyond some bytes, which fails in the very writes that a full disk fails."""
    resource = pytest.importorskip("resource", reason="there is no such limit on this system")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def deflated_zeros(n_bytes: int) -> bytes:
    """Return zlib data that unpack to so many zeros, a multiple of 16 MiB."""
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    part = packer.compress(bytes(2**24)) + packer.flush(zlib.Z_FULL_FLUSH)
    return b"\x78\x9c" + part * (n_bytes // 2**24) + packer.flush()


class Bomb:
    """Leaves a file behind where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return open, (str(self.path), "w")


def _hear_the_terminal() -> None:
    """Undo what nohup does, under which these tests may run and which children inherit."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


class Job:
    """The program as a child process that speaks JSON lines.

    Parameters
    ----------
    arguments
        Those of the command line.
    start
        How the process is started.
    """

    def __init__(self, *arguments: str, start: type[subprocess.Popen] = Fork) -> None:
        self.process = start(
            [sys.executable, "-m", "napari_synapse_cl", *arguments, "--events", "jsonl"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            preexec_fn=None if sys.platform == "win32" else _hear_the_terminal,
        )

    def events(self) -> Iterator[Event]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            yield from_line(line)

    def ask(self, command: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()

    def end(self) -> int:
        self.process.communicate(timeout=60)
        return self.process.returncode


@pytest.fixture(autouse=True)
def nothing_remembered(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Let no test know what was measured on this machine before.

    What bfloat16 gains is measured once for all: that takes seconds where it gains nothing.
    """
    gains, measure = tmp_path_factory.getbasetemp() / "gains.json", devices._gain_of_bfloat16

    def gain(device: torch.device) -> float | None:
        if not gains.exists():
            gains.write_text(json.dumps(measure(device)))
        return json.loads(gains.read_text())

    monkeypatch.setattr(devices, "FILE", tmp_path / "cache" / "probes.json")
    monkeypatch.setattr(devices, "_gain_of_bfloat16", gain)


@pytest.fixture(scope="session")
def sample() -> Sample:
    return make_sample(seed=0, shape=(96, 128, 128), n_synapses=12)


@pytest.fixture(scope="session")
def sample_files(sample: Sample, tmp_path_factory: pytest.TempPathFactory) -> Files:
    """A volume and its table of synapses on the disk."""
    folder = tmp_path_factory.mktemp("sample")
    image, table = folder / "volume.npy", folder / "synapses.csv"
    np.save(image, sample.image)
    sample.synapses.to_csv(table, index=False)
    return image, table


@pytest.fixture
def flags(sample_files: Files, tmp_path: Path) -> list[str]:
    """Flags of a job of seconds on the sample's files, with its results in ``run``."""
    image, table = sample_files
    named = {"image": image, "synapses": table, "output": tmp_path / "run"}
    return as_flags({**SMALL, **named})


@pytest.fixture(scope="session")
def medulla() -> Path:
    """The folder of FIB-SEM volumes that the project is developed on, but does not ship."""
    variable = "SYNAPSE_CL_TEST_DATA"
    if variable not in os.environ:
        pytest.skip(f"{variable} does not name the folder of the FIB-SEM volumes")
    folder = Path(os.environ[variable])
    assert folder.is_dir(), f"{variable} names {folder}, which is no folder"
    return folder


@pytest.fixture
def positions_table() -> pd.DataFrame:
    return pd.DataFrame({"z": [5, 6], "y": [5, 7], "x": [5, 8], "note": ["a", "b"]})

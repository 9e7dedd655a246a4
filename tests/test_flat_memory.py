"""An extraction of more synapses takes no more memory, however large the volume is."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from conftest import SMALL, as_flags, crops_of
from napari_synapse_cl.config import Config
from napari_synapse_cl.data import arrays
from napari_synapse_cl.data.arrays import LargeMappedArray
from napari_synapse_cl.data.crops.cutting import cut_crop
from napari_synapse_cl.data.parts import Positions
from napari_synapse_cl.data.volumes import Volume, open_volume
from napari_synapse_cl.models.architecture import Architecture
from napari_synapse_cl.models.checkpoints import save_checkpoint
from napari_synapse_cl.models.vgg3d import Vgg3D

MIB = 2**20
SIDE = 16
"""Of the crops."""
FEW, MANY = 200, 2000
CROPS_MIB = 4 * SIDE**3 * (MANY - FEW) / MIB
"""What the crops that are many take, all at once, beside those that are few."""
PAGES_MIB = 4096 * SIDE**2 * (MANY - FEW) / MIB
"""What they take of the volume, each row of a crop a page."""

JOB = f"""
import json, sys
from pathlib import Path
from napari_synapse_cl.cli import make_config, make_parser
from napari_synapse_cl.data import arrays
from napari_synapse_cl.runs.events import Progress
from napari_synapse_cl.features import extraction
from napari_synapse_cl.system.memory import Memory
from napari_synapse_cl.pipeline import run

# Small limits, so that a job of seconds comes to many batches and several maps.
extraction.BATCH_VOXELS = 20 * {SIDE}**3
arrays.MAPPED_BYTES = 100 * {MIB}
arrays.main_memory = lambda: Memory(2**30, 2**30)
options = vars(make_parser().parse_args(sys.argv[1:]))
del options["events"]
peaks = dict.fromkeys(["RssAnon", "RssFile"], 0.0)
for event in run(make_config(options)):
    # What comes after the last crop, such as the imports for the map of the features, is left out.
    if isinstance(event, Progress):
        lines = Path("/proc/self/status").read_text().splitlines()
        fields = dict(line.split(":", 1) for line in lines)
        for name in peaks:
            peaks[name] = max(peaks[name], int(fields[name].split()[0]) / 2**10)
print(json.dumps(list(peaks.values())))
"""


@dataclass(frozen=True)
class Peaks:
    """In MiB."""

    anonymous: float
    of_files: float


def peaks_of(n: int, volume: Path, folder: Path) -> Peaks:
    """Extract features of random positions in a process of its own."""
    array = open_volume(volume).array
    positions = np.random.default_rng(0).integers(0, array.shape, (n, 3))
    table, network = folder / f"{n}.csv", folder / "network.pt"
    pd.DataFrame(positions, columns=["z", "y", "x"]).to_csv(table, index=False)
    # A crop of holes alone is constant, and left out.
    np.load(volume, mmap_mode="r+")[tuple(positions.T)] = 255
    architecture = Architecture.from_config(Config(fmaps=1))
    save_checkpoint(network, Vgg3D.from_architecture(architecture), architecture)
    named = {"image": volume, "synapses": table, "checkpoint": network, "output": folder / str(n)}
    settings = {"crop_size": SIDE, "layer_num": 0, "n_components": 0}
    kept = {name: SMALL[name] for name in ("device", "precision")}
    done = subprocess.run(
        [sys.executable, "-c", JOB, "--extract_only", *as_flags({**kept, **named, **settings})],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return Peaks(*json.loads(done.stdout))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what kind of memory it is")
def test_ten_times_as_many_synapses_take_no_more_memory(tmp_path: Path) -> None:
    volume = tmp_path / "volume.npy"
    # All of it a hole, which takes no disk. A row is a page.
    np.lib.format.open_memmap(volume, mode="w+", dtype=np.uint8, shape=(600, 1024, 4096))
    few, many = (peaks_of(n, volume, tmp_path) for n in (FEW, MANY))
    assert many.anonymous - few.anonymous < CROPS_MIB / 2
    assert many.of_files - few.of_files < PAGES_MIB / 5


class TestLargeMappedArray:
    """The limit is lowered, so that small files are large."""

    @pytest.fixture(params=["C", "F"])
    def file(
        self,
        request: pytest.FixtureRequest,
        grey: np.ndarray,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> Path:
        monkeypatch.setattr(arrays, "MAPPED_BYTES", grey.nbytes - 1)
        file = tmp_path / "volume.npy"
        np.save(file, np.asarray(grey, order=request.param))
        return file

    @pytest.fixture
    def grey(self) -> np.ndarray:
        return np.random.default_rng(0).integers(0, 2**16, (40, 30, 50)).astype(np.uint16)

    @pytest.fixture(params=[True, False])
    def array(
        self, file: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
    ) -> LargeMappedArray:
        """Of a file that fits the memory, or of one that does not."""
        memory = arrays.main_memory()._replace(total=1 if request.param else 2**60)
        monkeypatch.setattr(arrays, "main_memory", lambda: memory)
        array = open_volume(file).array
        assert isinstance(array, LargeMappedArray)
        return array

    def test_regions_are_those_of_the_file(self, array: LargeMappedArray, grey: np.ndarray) -> None:
        random = np.random.default_rng(1)
        for _ in range(50):
            low = random.integers(0, grey.shape)
            high = low + random.integers(1, 20, 3)
            region = tuple(map(slice, low, high))
            np.testing.assert_array_equal(array[region], grey[region])
        np.testing.assert_array_equal(array[:], grey)
        np.testing.assert_array_equal(array[::3, ::-1, 5:5], grey[::3, ::-1, 5:5])
        np.testing.assert_array_equal(array[[3, 1]], grey[[3, 1]])

    def test_a_region_outlives_the_map_it_was_read_from(
        self, array: LargeMappedArray, grey: np.ndarray
    ) -> None:
        first = array[:4, :4, :4]
        for start in range(30):
            array[start : start + 10]
        np.testing.assert_array_equal(first, grey[:4, :4, :4])

    def test_crops_are_those_of_a_volume_in_memory(
        self, array: LargeMappedArray, grey: np.ndarray
    ) -> None:
        voxels = np.array([[0, 0, 0], [39, 29, 49], [20, 15, 25]])
        positions = Positions(voxels, np.arange(3), 0)
        of_file, in_memory = (crops_of(Volume(a), positions, (8, 10, 12)) for a in (array, grey))
        np.testing.assert_array_equal(of_file.read([2, 0, 1]), in_memory.read([2, 0, 1]))

    def test_a_file_that_takes_the_name_meanwhile_is_not_read(
        self, array: LargeMappedArray, file: Path, grey: np.ndarray
    ) -> None:
        if sys.platform == "win32":
            pytest.skip("Windows replaces no file that is open")
        other = file.with_name("other.npy")
        np.save(other, np.zeros(7))
        other.replace(file)
        for start in range(30):
            region = (slice(start, start + 10),) * 3
            crop = cut_crop(Volume(array), (start, 15, 25), (10, 10, 10))
            assert crop.any()
            np.testing.assert_array_equal(array[region], grey[region])

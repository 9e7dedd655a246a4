"""How much memory an extraction takes of volumes that are larger than this machine's memory.

    python benchmarks/extraction_memory.py [--points 1000 10000] [--crop_size 32] [--fmaps 8]
        [--layer_num 20] [--regions 192 384] [--region_layer 20] [--times_memory 4]
        [--folder FOLDER] [--large]

The command line extracts features of N positions, as a child process, from a ``.npy`` file and from
a Zarr array, and maps of regions, which are cubes of these sides. Nearly all of the volumes is
holes or the fill value, so that they take little disk: a tenth of the positions lie in blocks of
texture, and of the others one voxel is white, since constant crops would be left out.

For each: what was done a second, without the start and the end of the process, and the most memory
that it held. "RSS" is what ``top`` shows; "anonymous" is its part without mapped files, which the
system cannot take back; "page tables" are the kernel's, which no size of the process includes. The
latter two are known on Linux alone. The defaults are so small a network and so small crops that all
takes some minutes; how much memory a batch takes depends on them, but not what it grows by.

``--large`` stands for crops of 80³ and networks of 24 maps, which take half an hour.
"""

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import zarr

from napari_synapse_cl.config import Config
from napari_synapse_cl.data.sample.volume import make_sample
from napari_synapse_cl.models.architecture import Architecture
from napari_synapse_cl.models.checkpoints import save_checkpoint
from napari_synapse_cl.models.vgg3d import Vgg3D
from napari_synapse_cl.runs.events import Growing, Progress, from_line

MIB = 2**20
SIDE = 4096
"""Of the volumes along y and x: a row is a page of memory."""
BLOCK = 64
"""Side of a block of texture, and of a chunk."""
N_BLOCKS = 8
SHARE_IN_BLOCKS = 0.1
SAMPLING_SECONDS = 0.01
ALWAYS = ["--extract_only", "--events", "jsonl", "--precision", "float32", "--device", "cpu"]
LARGE = {"crop_size": 80, "fmaps": 24}


@dataclass
class Peaks:
    """The most memory that a process held, in bytes; None where this system does not tell."""

    rss: int = 0
    anonymous: int | None = None
    page_tables: int | None = None

    def note(self, process: psutil.Process) -> None:
        """Look at the process once."""
        self.rss = max(self.rss, process.memory_info().rss)
        if sys.platform == "linux":
            text = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii", errors="replace")
            fields = dict(line.split(":", 1) for line in text.splitlines())
            kib = {name: int(value.split()[0]) for name, value in fields.items() if "kB" in value}
            # One that has ended is still listed, without its memory. The system keeps the peak of
            # the RSS itself.
            self.rss = max(self.rss, 1024 * kib.get("VmHWM", 0))
            self.anonymous = max(self.anonymous or 0, 1024 * kib.get("RssAnon", 0))
            self.page_tables = max(self.page_tables or 0, 1024 * kib.get("VmPTE", 0))

    def follow(self, process: psutil.Process) -> None:
        """Look at the process until it ends."""
        try:
            while process.status() != psutil.STATUS_ZOMBIE:
                self.note(process)
                time.sleep(SAMPLING_SECONDS)
        except (psutil.NoSuchProcess, OSError):
            pass


def extract(*flags: str) -> tuple[Peaks, float]:
    """Run an extraction; return its peaks, and how long the network and the reading took."""
    with tempfile.TemporaryFile("w+") as errors, tempfile.TemporaryDirectory() as output:
        child = subprocess.Popen(
            [sys.executable, "-m", "napari_synapse_cl", *ALWAYS, "--output", output, *flags],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        peaks, times = Peaks(), []
        follower = threading.Thread(target=peaks.follow, args=(psutil.Process(child.pid),))
        follower.start()
        assert child.stdout is not None
        for line in child.stdout:
            event = from_line(line)
            is_read = isinstance(event, Progress) and event.task.startswith("extracting")
            if is_read or isinstance(event, Growing):
                times.append(time.perf_counter())
        follower.join()
        if child.wait():
            errors.seek(0)
            raise RuntimeError(errors.read())
    return peaks, times[-1] - times[0]


def texture_corners(shape: tuple[int, ...]) -> np.ndarray:
    """Return where the blocks of texture begin, ``(N_BLOCKS, 3)``."""
    return BLOCK * np.random.default_rng(0).integers(1, np.array(shape) // BLOCK - 1, (N_BLOCKS, 3))


def write_volumes(folder: Path, shape: tuple[int, ...]) -> dict[str, Path]:
    paths = {".npy": folder / "volume.npy", "Zarr": folder / "volume.zarr"}
    plain = np.lib.format.open_memmap(paths[".npy"], mode="w+", dtype=np.uint8, shape=shape)
    chunked = zarr.create_array(
        paths["Zarr"],
        shape=shape,
        chunks=(BLOCK,) * 3,
        dtype="uint8",
        fill_value=128,
    )
    texture = make_sample().image[:BLOCK, :BLOCK, :BLOCK]
    for corner in texture_corners(shape):
        block = tuple(slice(c, c + BLOCK) for c in corner)
        plain[block] = texture
        chunked[block] = texture
    return paths


def write_points(path: Path, shape: tuple[int, ...], n: int, volumes: dict[str, Path]) -> None:
    random = np.random.default_rng(1)
    points = random.integers(0, shape, (n, 3))
    inside = random.random(n) < SHARE_IN_BLOCKS
    corners = texture_corners(shape)[random.integers(0, N_BLOCKS, inside.sum())]
    points[inside] = corners + random.integers(0, BLOCK, corners.shape)
    pd.DataFrame(points, columns=["z", "y", "x"]).to_csv(path, index=False)
    others = tuple(points[~inside].T)
    np.load(volumes[".npy"], mmap_mode="r+")[others] = 255
    zarr.open_array(volumes["Zarr"], mode="r+").set_coordinate_selection(others, 255)


def write_network(path: Path, fmaps: int) -> None:
    architecture = Architecture.from_config(Config(fmaps=fmaps))
    save_checkpoint(path, Vgg3D.from_architecture(architecture), architecture)


def show(name: str, amount: int, rate: str, seconds: float, peaks: Peaks) -> None:
    memory = [
        f"{'?' if value is None else round(value / MIB):>12}"
        for value in (peaks.rss, peaks.anonymous, peaks.page_tables)
    ]
    print(f"{name:24} {amount:9} {rate:>16} {seconds:7.1f} {''.join(memory)}", flush=True)


def measure(options: argparse.Namespace, folder: Path) -> None:
    planes = options.times_memory * psutil.virtual_memory().total / SIDE**2
    shape = (BLOCK * ceil(planes / BLOCK), SIDE, SIDE)
    volumes = write_volumes(folder, shape)
    network = folder / "network.pt"
    write_network(network, options.fmaps)
    print(
        f"volumes of {' × '.join(map(str, shape))} bytes, {np.prod(shape) / 2**30:.0f} GiB, on a "
        f"machine of {psutil.virtual_memory().total / 2**30:.0f} GiB\n\n"
        f"{'':24} {'crops or':>9} {'':16} {'':7} {'peak in MiB':>12}\n"
        f"{'case':24} {'side':>9} {'rate':>16} {'seconds':>7} "
        f"{'RSS':>12}{'anonymous':>12}{'page tables':>12}"
    )
    for kind, volume in volumes.items():
        for n in options.points:
            table = folder / "points.csv"
            write_points(table, shape, n, volumes)
            flags = ["--image", str(volume), "--synapses", str(table)]
            flags += ["--crop_size", str(options.crop_size), "--layer_num", str(options.layer_num)]
            peaks, seconds = extract("--checkpoint", str(network), *flags)
            show(f"positions, {kind}", n, f"{n / seconds:.1f} crops/s", seconds, peaks)
    for kind, volume in volumes.items():
        for side in options.regions:
            start = texture_corners(shape).min(axis=0)
            region = [str(n) for n in (*start, *(start + side))]
            flags = ["--image", str(volume), "--dense", "--region", *region]
            flags += ["--layer_num", str(options.region_layer)]
            peaks, seconds = extract("--checkpoint", str(network), *flags)
            rate = f"{side**3 / seconds / 1e6:.2f} Mvoxel/s"
            show(f"region, {kind}", side, rate, seconds, peaks)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--points", type=int, nargs="+", default=[1000, 10_000])
    parser.add_argument("--crop_size", type=int, default=32)
    parser.add_argument("--fmaps", type=int, default=8)
    parser.add_argument("--layer_num", type=int, default=20)
    parser.add_argument("--regions", type=int, nargs="*", default=[192, 384])
    parser.add_argument("--region_layer", type=int, default=20)
    parser.add_argument("--times_memory", type=float, default=4)
    parser.add_argument("--folder", type=Path, help="where the volumes are made; for a real disk")
    parser.add_argument("--large", action="store_true")
    options = parser.parse_args()
    if options.large:
        vars(options).update(LARGE)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        measure(options, Path(folder))


if __name__ == "__main__":
    main()

"""Crops of a volume as each format gives them, and how much of a training waits for them.

Each format is read at the same random places, by one thread and by four: as the package does
(crops cut and checked, float32 in [0, 1]), and by the plain library, whose regions become float32
in [0, 1] too. Files are opened anew before each repeat, so nobody's memory of chunks is warm; the
system's memory of files is, for all alike.
"""

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import Case, Row, Section, Target, interleaved

from napari_synapse_cl.augmentations.transforms import context_shape
from napari_synapse_cl.config import Config, CropConfig
from napari_synapse_cl.data.crops.cache import CachedCrops, fill_cache
from napari_synapse_cl.data.crops.sources import CropSource, StreamedCrops
from napari_synapse_cl.data.formats import stores
from napari_synapse_cl.data.parts import Part, Positions
from napari_synapse_cl.data.volumes import Volume, open_volume
from napari_synapse_cl.models.architecture import Architecture
from napari_synapse_cl.models.vgg3d import ContrastiveModel
from napari_synapse_cl.system.devices import choose_device, choose_precision, to_device
from napari_synapse_cl.system.distributed import ALONE
from napari_synapse_cl.system.words import Triple
from napari_synapse_cl.training.objectives import make_objective
from napari_synapse_cl.training.step import FullBatch, Optimization
from napari_synapse_cl.training.views import Views

CUBES = (1.0, 1.0, 1.0)
THREADS = (1, 4)
LEAST_IDLE = 0.9
"""Share of a training's time in which what reads crops shall have nothing to do."""

OpenPlain = Callable[[], Any]


def measure(options: argparse.Namespace) -> Iterator[Section]:
    """Yield a table for each format, and one for each size of a training step."""
    side, crop, n, repeats = (128, 32, 4, 2) if options.quick else (512, 80, 16, 7)
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        volume = _volume(side)
        plain = _write(volume, folder)
        centres = np.random.default_rng(0).integers(crop, side - crop, (n, 3))
        for name, (path, open_plain) in plain.items():
            yield _compared(name, path, open_plain, centres, crop, repeats)
        yield _cached(folder, centres, crop, repeats)
        sizes = [(16, 4, 2, 1)] if options.quick else [(80, 24, 2, 3), (32, 8, 32, 5)]
        for size, fmaps, pairs, n_steps in sizes:
            yield _idle(folder, side, options.device, size, fmaps, pairs, n_steps)


def _volume(side: int) -> np.ndarray:
    """Return grey values with structure and noise, so that they compress a little."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(40, 200, (side // 16,) * 3, dtype=np.uint8)
    for axis in range(3):
        coarse = coarse.repeat(16, axis)
    coarse += rng.integers(0, 32, coarse.shape, dtype=np.uint8)
    return coarse


def _write(volume: np.ndarray, folder: Path) -> dict[str, tuple[Path | None, OpenPlain]]:
    """Write the volume in each format; return where, and how its plain library opens it."""
    import dask.array
    import h5py
    import tifffile
    import zarr
    from zarr.codecs import ZstdCodec

    chunks = (64, 64, 64)
    tifffile.imwrite(folder / "v.tif", volume, metadata=None)
    for name, codecs in (("raw", None), ("zstd", ZstdCodec(level=3))):
        array = zarr.create_array(
            folder / f"{name}.zarr",
            shape=volume.shape,
            chunks=chunks,
            dtype="u1",
            compressors=codecs,
        )
        array[:] = volume
    with h5py.File(folder / "v.h5", "w") as file:
        file.create_dataset("raw", data=volume, chunks=chunks)

    def mapped() -> Any:
        return tifffile.memmap(folder / "v.tif", mode="r")

    def open_zarr(name: str) -> OpenPlain:
        return lambda: zarr.open_array(folder / f"{name}.zarr", mode="r")

    return {
        "tifffile.memmap": (folder / "v.tif", mapped),
        "zarr-python": (folder / "raw.zarr", open_zarr("raw")),
        "zarr-python, zstd": (folder / "zstd.zarr", open_zarr("zstd")),
        "h5py": (folder / "v.h5", lambda: h5py.File(folder / "v.h5", "r")["raw"]),
        "dask": (None, lambda: dask.array.from_array(mapped(), chunks=chunks)),
    }


def _opened(path: Path) -> Volume:
    """Open a volume with no chunk of it in memory."""
    stores.context.cache_clear()
    return open_volume(path)


def _compared(
    name: str,
    path: Path | None,
    open_plain: OpenPlain,
    centres: np.ndarray,
    crop: int,
    repeats: int,
) -> Section:
    positions = Positions(centres, np.arange(len(centres)), 0)

    def of_ours() -> Callable[[Sequence[int]], object]:
        volume = Volume(open_plain()) if path is None else _opened(path)
        config = CropConfig(crop_size=(crop,) * 3)
        return StreamedCrops([Part(volume)], positions, config, (crop,) * 3).read

    def of_plain() -> Callable[[Sequence[int]], object]:
        array = open_plain()

        def read(some: Sequence[int]) -> np.ndarray:
            crops = np.empty((len(some), crop, crop, crop), np.float32)
            for slot, (z, y, x) in zip(crops, centres[some] - crop // 2, strict=True):
                slot[:] = np.asarray(array[z : z + crop, y : y + crop, x : x + crop])
                slot /= 255
            return crops

        return read

    cases: dict[str, Case] = {}
    for title, opened in ((name, of_plain), ("ours", of_ours)):
        for n_threads in THREADS:
            cases[_threads(title, n_threads)] = _timed(opened, len(centres), n_threads)
    rows = interleaved(cases, repeats, items=len(centres))
    title = f"Crops of {crop}³ from {'a dask layer' if path is None else path.name}"
    return Section(title, rows, _threads(name, 1), "crops")


def _threads(name: str, n: int) -> str:
    return name if n == 1 else f"{name}, {n} threads"


def _timed(open_reader: Callable[[], Callable[[Sequence[int]], object]], n: int, k: int) -> Case:
    def run() -> float:
        read = open_reader()
        shares = [share.tolist() for share in np.array_split(np.arange(n), k)]
        # Its threads are started before the time is.
        with ThreadPoolExecutor(k) as pool:
            list(pool.map(time.sleep, [0.001] * k))
            start = time.perf_counter()
            if k == 1:
                read(shares[0])
            else:
                list(pool.map(read, shares))
            return time.perf_counter() - start

    return run


def _cached(folder: Path, centres: np.ndarray, crop: int, repeats: int) -> Section:
    """Compare crops that were cut before with those cut from memory-mapped and compressed files."""
    positions = Positions(centres, np.arange(len(centres)), 0)
    sources: dict[str, Callable[[], CropSource]] = {}
    for name in ("v.tif", "zstd.zarr"):
        sources[f"cut from {name}"] = lambda name=name: _streamed(folder / name, positions, crop)
    cache = folder / "cache"
    list(fill_cache(_streamed(folder / "v.tif", positions, crop), cache, len(centres)))
    sources["crop cache"] = lambda: CachedCrops(cache)
    cases = {
        _threads(name, k): _timed(lambda make=make: make().read, len(centres), k)
        for name, make in sources.items()
        for k in THREADS
    }
    rows = interleaved(cases, repeats, items=len(centres))
    shutil.rmtree(cache)
    return Section(f"Crops of {crop}³ that were cut before", rows, "cut from v.tif", "crops")


def _streamed(path: Path, positions: Positions, crop: int) -> StreamedCrops:
    config = CropConfig(crop_size=(crop,) * 3)
    return StreamedCrops([Part(_opened(path))], positions, config, (crop,) * 3)


def _idle(
    folder: Path, side: int, device_name: str, size: int, fmaps: int, pairs: int, n_steps: int
) -> Section:
    """Compare the reading of a step's crops, context included, with the step."""
    config = Config.from_values({"crop_size": size, "fmaps": fmaps, "batch_size": pairs})
    context = context_shape(config.crop_size, config, CUBES)
    rng = np.random.default_rng(1)
    margin = max(context) // 2
    centres = rng.integers(margin, side - margin, (pairs * (n_steps + 1), 3))
    positions = Positions(centres, np.arange(len(centres)), 0)
    names = {"TIFF": "v.tif", "Zarr": "raw.zarr", "Zarr, zstd": "zstd.zarr"}
    readers = {
        f"reading, {title}": _in_turn(
            StreamedCrops([Part(_opened(folder / name))], positions, config, context), pairs
        )
        for title, name in names.items()
    }
    step = _step(config, context, choose_device(device_name), pairs)
    rows: list[Row] = interleaved({"step": step, **readers}, n_steps)
    title = f"A step of {pairs} pairs of {size}³, {fmaps} maps, and the reading of its crops"
    section = Section(title, rows, "step", "steps")
    for name in names:
        idle = max(0.0, 1 - section.median(f"reading, {name}") / section.median("step"))
        section.targets.append(
            Target(f"what reads {name} idles, {pairs} pairs of {size}³", idle, LEAST_IDLE)
        )
        section.notes.append(f"What reads {name} has nothing to do in {idle:.1%} of the time.")
    return section


def _in_turn(source: CropSource, n: int) -> Case:
    """Read other crops each time."""
    order = iter(np.arange(len(source)).reshape(-1, n).tolist())

    def run() -> None:
        source.read(next(order))

    return run


class _Held(CropSource):
    """Crops in memory, which take no reading."""

    def __init__(self, n: int, shape: Triple) -> None:
        self.shape, self.positions = shape, Positions(np.zeros((n, 3), int), np.arange(n), 0)
        self._crops = np.random.default_rng(0).random((n, 1, *shape), np.float32)

    def read_usable(self, synapses: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        return self._crops, np.asarray(synapses)

    def states(self) -> None:
        return None

    def problem(self, synapse: int) -> str:
        return ""


def _step(config: Config, context: Triple, device: torch.device, pairs: int) -> Case:
    architecture = Architecture.from_config(config)
    model = ContrastiveModel.from_seed(architecture, config, 0)
    objective = make_objective(model, config)
    to_device(model, device)
    to_device(objective, device)
    optimization = Optimization(model, objective, config, 1000)
    views = Views(_Held(pairs, context), config, device, CUBES)
    batch = FullBatch(model, objective, views.augmented, device, ALONE)
    batch.precision = choose_precision(
        config.precision, device, architecture.map_sizes(config.crop_size)
    )
    batch.micro_batch_size = pairs
    model.train()

    def run() -> None:
        optimization.prepare(0)
        batch.backward(np.arange(pairs), 1)
        optimization.take_step()
        # Reading a value waits for the device.
        next(model.parameters()).flatten()[0].item()

    return run

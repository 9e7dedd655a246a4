"""Measure what a training takes on this machine: device, precision, memory and time."""

import platform
import subprocess
import sys
import time
from dataclasses import dataclass
from math import prod
from pathlib import Path

import psutil
import torch

from napari_synapse_cl import augmentations
from napari_synapse_cl.augmentations.context import context_shape
from napari_synapse_cl.config import Config
from napari_synapse_cl.models.architecture import nearest_crop_size
from napari_synapse_cl.models.losses import nt_xent
from napari_synapse_cl.models.projection import ContrastiveModel
from napari_synapse_cl.pipeline.networks import make_model
from napari_synapse_cl.system.devices import (
    autocast,
    choose_device,
    memory_of,
    to_device,
    usable_precisions,
)
from napari_synapse_cl.system.memory import GIB
from napari_synapse_cl.system.words import Triple
from napari_synapse_cl.training.estimates import CUBES, VIEWS, Machine
from napari_synapse_cl.training.memory.measure import PRECISIONS, clipped, step_memory
from napari_synapse_cl.training.objectives import make_objective
from napari_synapse_cl.training.optimization import Optimization

SECONDS = 1.0
"""How long the steps that are timed may take together."""
REPEATS = 3
SIDES = (32, 48, 64, 96, 128, 512)
"""Sides that the timed views are clipped to, as far as there is time for them."""


@dataclass(frozen=True)
class _Load:
    """How much is computed in a step that is timed."""

    shape: Triple
    n_pairs: int

    @property
    def voxels(self) -> int:
        return VIEWS * self.n_pairs * prod(self.shape)


def probe(config: Config) -> Machine:
    """Measure what a training with these settings takes here; it takes about two seconds.

    Device and precision are those that a training chooses. A few steps of the real network are
    run, on views that are clipped as far as they would take long, and scaled to the crop size by
    the number of voxels.

    Parameters
    ----------
    config
        The settings. A crop size that the network cannot take is measured as the nearest it can.

    Raises
    ------
    InputError
        If the device, the precision or the pretrained network cannot be used.
    """
    model = make_model(config)
    downsampling = model.architecture.total_downsampling
    crop_size = nearest_crop_size(config.crop_size, downsampling)
    device = choose_device(config.device)
    sizes = model.architecture.map_sizes(crop_size)
    precisions = usable_precisions(config.precision, device, sizes)
    to_device(model, device)
    resident = _resident_bytes(model, device)
    timer = _Timer(model, config, device, precisions[0])
    memory = memory_of(device)
    context = context_shape(crop_size, config, config.voxel_size or CUBES)
    step = step_memory(model, crop_size, context, device)
    pair = step.pair[precisions[0], False]
    return Machine(
        device=str(device),
        device_name=_name_of(device),
        precisions=tuple(precisions),
        free_gib=memory.free / GIB,
        total_gib=memory.total / GIB,
        resident_gib=resident / GIB,
        fixed_gib=step.fixed / GIB,
        pair_gib={
            precision: (step.pair[precision, False] / GIB, step.pair[precision, True] / GIB)
            for precision in PRECISIONS
        },
        seconds_per_view=timer.seconds_per_view(
            crop_size, room=VIEWS * (memory.free - resident - step.fixed) // pair
        ),
        total_downsampling=downsampling,
    )


class _Timer:
    """Times training steps on random crops."""

    def __init__(
        self, model: ContrastiveModel, config: Config, device: torch.device, precision: str
    ) -> None:
        self._model = model.train()
        self._config = config
        self._device = device
        self._precision = precision
        objective = make_objective(model, config, config)
        self._optimizer = Optimization(model, objective, config, 1).optimizer

    def seconds_per_view(self, crop_size: Triple, room: int) -> float:
        """Return how long a view of a training step takes, the minimum of a few.

        Parameters
        ----------
        crop_size
            Size of a view in a training.
        room
            How many views fit into memory.
        """
        loads = self._loads(crop_size, room)
        load, deadline = loads[0], time.perf_counter() + SECONDS
        # The first step of a process is slow, and so is the first of a size on a GPU.
        self._time_passes(load)
        seconds = self._time_passes(load)
        while larger := [
            other
            for other in loads
            if other.voxels > load.voxels
            and (REPEATS + 1) * seconds * other.voxels / load.voxels
            < deadline - time.perf_counter()
        ]:
            load = larger[-1]
            self._time_passes(load)
            seconds = self._time_passes(load)
        for _ in range(REPEATS - 1):
            # On a busy or slow machine one is enough: the estimate is waited for.
            if time.perf_counter() < deadline:
                seconds = min(seconds, self._time_passes(load))
        optimiser = min(self._time_optimiser() for _ in range(REPEATS))
        share = optimiser / (VIEWS * self._config.batch_size)
        return seconds * prod(crop_size) / load.voxels + share

    def _loads(self, crop_size: Triple, room: int) -> list[_Load]:
        """Return steps of growing size, up to that of the training, as far as they fit."""
        downsampling = self._model.architecture.total_downsampling
        loads = [_Load(clipped(crop_size, downsampling, side), n_pairs=1) for side in SIDES]
        for doubling in range(1, self._config.batch_size.bit_length()):
            loads.append(_Load(crop_size, 2**doubling))
        largest = max(loads[0].voxels, room * prod(crop_size))
        return [load for load in loads if load.voxels <= largest]

    def _time_passes(self, load: _Load) -> float:
        """Return how long augmentation, forward pass, loss and backward pass take."""
        config, n = self._config, load.n_pairs
        voxel_size = config.voxel_size or CUBES
        crops = torch.rand(n, 1, *context_shape(load.shape, config, voxel_size))
        start = time.perf_counter()
        crops = crops.to(self._device)
        pair = augmentations.draw_pair(config, config.seed, 1, range(n))
        views = torch.cat(
            [augmentations.apply(crops, view, load.shape, voxel_size) for view in pair]
        )
        views = views.contiguous(memory_format=torch.channels_last_3d)
        with autocast(self._device, self._precision):
            embeddings = self._model(views)
        loss = nt_xent(*embeddings.chunk(2), temperature=config.temperature)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._wait()
        return time.perf_counter() - start

    def _time_optimiser(self) -> float:
        start = time.perf_counter()
        self._optimizer.step()
        self._wait()
        return time.perf_counter() - start

    def _wait(self) -> None:
        """Wait for the device, as reading a value does."""
        next(self._model.head.parameters()).flatten()[0].item()


def _resident_bytes(model: ContrastiveModel, device: torch.device) -> int:
    """Return the bytes of the weights, and of the runtime.

    Called after the model was made, and before it was used. On a GPU the runtime is not counted:
    its memory is not free any more by then.
    """
    if device.type == "cuda":
        return sum(parameter.nbytes for parameter in model.parameters())
    return int(psutil.Process().memory_info().rss)


def _name_of(device: torch.device) -> str:
    """Return what people call a device."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    elif sys.platform == "darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    return platform.processor() or platform.machine()

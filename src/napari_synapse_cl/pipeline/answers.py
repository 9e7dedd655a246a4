"""Answers that only a process with PyTorch can give: the window asks for them, and imports none.

``python -m napari_synapse_cl.pipeline.answers TOPIC ARGUMENT …`` writes an answer to standard
output as a line of JSON, or ``{"error": …}`` if what it was asked about cannot be used:

``machine FILE``
    What a training with the settings in a file takes here, as
    :meth:`~napari_synapse_cl.training.estimates.Machine.as_json` writes it.
``network LOCATION WHICH``
    What is in a checkpoint or run, as
    :meth:`~napari_synapse_cl.models.architecture.NetworkInfo.as_dict` has it.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
import psutil
import torch
from torch import Tensor

from napari_synapse_cl.augmentations import composition
from napari_synapse_cl.augmentations.transforms import context_shape
from napari_synapse_cl.config import Config
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.models.architecture import NetworkInfo, nearest_crop_size
from napari_synapse_cl.models.vgg3d import ContrastiveModel
from napari_synapse_cl.pipeline.networks import make_model, open_network, run_of
from napari_synapse_cl.pipeline.provenance import Which
from napari_synapse_cl.runs.terminal import leave
from napari_synapse_cl.system.devices import choose_device, device_name, memory_in_use, to_device
from napari_synapse_cl.system.distributed import ALONE
from napari_synapse_cl.system.downloads import local_file
from napari_synapse_cl.system.memory import GIB
from napari_synapse_cl.system.words import Triple
from napari_synapse_cl.training.estimates import CUBES, VIEWS, Machine
from napari_synapse_cl.training.memory.measure import clipped, step_memory
from napari_synapse_cl.training.objectives import make_objective
from napari_synapse_cl.training.step import FullBatch, Optimization

_IMPORTED = time.time()
SECONDS = 3.0
"""How long the steps that are timed may take together."""
REPEATS = 3
SIDES = (32, 48, 64, 96, 128, 512)
"""Sides that the timed views are clipped to, as far as there is time for them."""
LEAST_PAIRS = 2
"""With which all objectives have negatives."""
SPREAD = 1.2
"""Factor by which steps differ that are measured at their full size."""
SPREAD_OF_SMALLER = 0.1
"""Exponent with which it grows with how much smaller the measured steps are."""


def main(topic: str, *arguments: str) -> None:
    """Write the answer to a question."""
    try:
        answer = _TOPICS[topic](*arguments)
    except InputError as error:
        answer = {"error": str(error)}
    sys.stdout.write(json.dumps(answer) + "\n")


def _machine(file: str) -> dict[str, Any]:
    return json.loads(probe(Config.from_file(Path(file))).as_json())


def _network(location: str, which: str) -> dict[str, Any]:
    checkpoint = local_file(location)
    run = run_of(checkpoint)
    networks = ["trained"]
    if run is not None:
        networks += ["best"] if run.best_checkpoint.exists() else []
        networks += ["start"]
    opened = open_network(checkpoint, next(w for w in get_args(Which) if w == which))
    return NetworkInfo(
        opened.architecture,
        opened.crop_size,
        opened.voxel_size,
        opened.crop_settings,
        tuple(networks),
    ).as_dict()


def _seconds_to_start() -> float:
    """Return how long this process took until PyTorch was there, as that of a training does."""
    return max(0.0, _IMPORTED - psutil.Process().create_time())


class _Load(NamedTuple):
    """How much is computed in a step that is timed."""

    shape: Triple
    n_pairs: int

    @property
    def voxels(self) -> int:
        return VIEWS * self.n_pairs * prod(self.shape)


def probe(config: Config) -> Machine:
    """Measure what a training with these settings takes here; it takes about two seconds.

    Device and precision are those that a training chooses. A few steps of the real network and
    objective are run, on views that are clipped as far as they would take long, and scaled to the
    crop size by the number of voxels.

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
    nearest = nearest_crop_size(config.crop_size, downsampling)
    config = config.model_copy(update={"crop_size": nearest})
    device = choose_device(config.device)
    to_device(model, device)
    resident = round(memory_in_use(device) * GIB)
    memory = step_memory(model, config, config.voxel_size or CUBES, device)
    precision, (pair, _) = next(iter(memory.pair.items()))
    timer = _Timer(model, config, device, precision)
    seconds, spread = timer.seconds_per_view(max_pairs=(memory.free - memory.fixed) // pair)
    return Machine(
        device=str(device),
        device_name=device_name(device),
        memory=memory,
        resident=resident,
        seconds_per_view=seconds,
        total_downsampling=downsampling,
        seconds_to_start=_seconds_to_start(),
        seconds_to_save=timer.seconds_to_save(),
        spread=spread,
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
        self._objective = make_objective(model, config)
        to_device(self._objective, device)
        self._optimizer = Optimization(model, self._objective, config, 1).optimizer

    def seconds_to_save(self) -> float:
        """Return how long a checkpoint of the model and the optimiser takes to write."""
        start = time.perf_counter()
        with tempfile.TemporaryFile() as file:
            states = [part.state_dict() for part in (self._model, self._objective, self._optimizer)]
            torch.save(states, file)
            os.fsync(file.fileno())
        return time.perf_counter() - start

    def seconds_per_view(self, max_pairs: int) -> tuple[float, float]:
        """Return how long a view of a training step takes, and by which factor that may be off.

        Parameters
        ----------
        max_pairs
            How many pairs fit into memory.
        """
        loads = self._loads(max_pairs)
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
        measured = [seconds]
        for _ in range(REPEATS - 1):
            # On a busy or slow machine one is enough: the estimate is waited for.
            if time.perf_counter() < deadline:
                measured.append(self._time_passes(load))
        seconds = sorted(measured)[len(measured) // 2]
        optimiser = min(self._time_optimiser() for _ in range(REPEATS))
        share = optimiser / (VIEWS * self._config.batch_size)
        whole = _Load(self._config.crop_size, self._config.batch_size).voxels
        spread = SPREAD * max(1.0, whole / load.voxels) ** SPREAD_OF_SMALLER
        spread *= (max(measured) / min(measured)) ** 0.5
        return seconds * prod(self._config.crop_size) / load.voxels + share, spread

    def _loads(self, max_pairs: int) -> list[_Load]:
        """Return steps of growing size, up to that of the training, as far as they fit."""
        size, downsampling = self._config.crop_size, self._model.architecture.total_downsampling
        loads = [_Load(clipped(size, downsampling, side), LEAST_PAIRS) for side in SIDES]
        for doubling in range(2, self._config.batch_size.bit_length()):
            loads.append(_Load(size, 2**doubling))
        largest = max(loads[0].voxels, _Load(size, max_pairs).voxels)
        return [load for load in loads if load.voxels <= largest]

    def _time_passes(self, load: _Load) -> float:
        """Return how long augmentation, forward pass, loss and backward pass take."""
        config, n = self._config, load.n_pairs
        voxel_size = config.voxel_size or CUBES
        crops = torch.rand(n, 1, *context_shape(load.shape, config, voxel_size))

        def views(synapses: np.ndarray, epoch: int) -> Tensor:
            # Any spread takes the same time.
            pair = composition.draw_pair(config, config.seed, epoch, synapses.tolist(), [1.0] * n)
            own = crops.to(self._device)
            made = [composition.apply(own, view, load.shape, voxel_size) for view in pair]
            return torch.cat(made).contiguous(memory_format=torch.channels_last_3d)

        batch = FullBatch(self._model, self._objective, views, self._device, ALONE)
        batch.precision, batch.micro_batch_size = self._precision, n
        start = time.perf_counter()
        batch.backward(np.arange(n), 1)
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


_TOPICS: dict[str, Callable[..., dict[str, Any]]] = {"machine": _machine, "network": _network}

if __name__ == "__main__":
    main(*sys.argv[1:])
    leave(0)

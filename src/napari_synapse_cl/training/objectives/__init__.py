"""What embeddings of two views of synapses are trained for.

An objective gets the embeddings of a whole batch at once, whatever parts went through the backbone,
and keeps what it needs beside the network that is trained. It is known by being in this folder: a
further one is a class in one of its modules, and its name in
:mod:`napari_synapse_cl.config.training_sections`.
"""

from importlib import import_module
from pkgutil import iter_modules

import numpy as np
import torch

from napari_synapse_cl.config import Config, TrainingConfig
from napari_synapse_cl.models.vgg3d import ContrastiveModel
from napari_synapse_cl.training.objectives.base import KINDS, Objective, of_pairs

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")


def make_objective(
    model: ContrastiveModel, config: Config, cells: np.ndarray | None = None
) -> Objective:
    """Return the objective that the settings name; its randomness comes from their seed.

    Parameters
    ----------
    model
        The network that is trained, as it is at the start.
    cells
        ``(M,)`` int64, which cell each of all synapses is of, below 0 where that is not known.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        objective = KINDS[config.objective](model, config)
    objective.cells = None if cells is None else torch.from_numpy(cells)
    return objective


def chance_loss(config: TrainingConfig, batch_size: int) -> float | None:
    """Return the loss of a network to which all synapses look alike, None where it tells nothing.

    Parameters
    ----------
    config
        The settings, which name the objective.
    """
    chance = KINDS[config.objective].chance_loss(config, batch_size)
    # Of the second task the mean of what is to be told.
    return None if chance is None else chance + config.texture_weight

"""How weights are changed: which of them at what time, how fast, and how far at most."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from napari_synapse_cl.config import TrainingConfig
from napari_synapse_cl.models.projection import ContrastiveModel
from napari_synapse_cl.training.objectives import Objective
from napari_synapse_cl.training.schedule import learning_rate, stages_waiting


class Optimization:
    """AdamW on a schedule, with gradient clipping and gradual unfreezing.

    Biases and batch norms do not decay. The learning rate of the backbone is a multiple of that of
    the head and of what the objective adds.

    Parameters
    ----------
    model, objective
        What is trained, on its device.
    config
        Learning rates, decay, clipping and unfreezing.

    References
    ----------
    Loshchilov, Hutter: Decoupled Weight Decay Regularization, 2019.
    https://arxiv.org/abs/1711.05101
    """

    def __init__(
        self,
        model: ContrastiveModel,
        objective: Objective,
        config: TrainingConfig,
        total_steps: int,
    ) -> None:
        self._model = model
        self._objective = objective
        self._config = config
        self._total_steps = total_steps
        self._waiting: list[int] = []
        others = [*model.head.parameters(), *objective.parameters()]
        factor = config.backbone_lr_factor
        self.optimizer = torch.optim.AdamW(
            [
                *_groups(model.backbone.features.parameters(), config.weight_decay, factor),
                *_groups(others, config.weight_decay, 1.0),
            ],
            lr=config.learning_rate,
        )

    def prepare(self, step: int) -> float:
        """Freeze what does not train yet in a step, counted from 0, and return its learning rate.

        The rate is that of the head.
        """
        waiting = stages_waiting(step, self._total_steps, self._config, self._model.trained_stages)
        if waiting != self._waiting:
            self._model.freeze_stages(waiting)
            self._objective.freeze_stages(waiting)
            self._waiting = waiting
        rate = learning_rate(step, self._total_steps, self._config)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        return rate

    def take_step(self) -> None:
        """Change the weights by their gradients."""
        if self._config.clip_norm:
            weights = [w for group in self.optimizer.param_groups for w in group["params"]]
            nn.utils.clip_grad_norm_(weights, self._config.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


def _groups(
    parameters: Iterable[nn.Parameter], weight_decay: float, factor: float
) -> list[dict[str, Any]]:
    """Return the groups of weights that decay and of those that do not."""
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    return [
        {
            "params": [p for p in trained if (p.ndim > 1) == decays],
            "weight_decay": weight_decay if decays else 0.0,
            "factor": factor,
        }
        for decays in (True, False)
    ]

"""A step: the gradient of a loss over a whole batch, whatever part fits into memory, and its use.

A batch that is larger than memory goes through the backbone in parts.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from napari_synapse_cl.config import TrainingConfig
from napari_synapse_cl.models.norms import statistics_kept
from napari_synapse_cl.models.vgg3d import ContrastiveModel
from napari_synapse_cl.system.devices import autocast
from napari_synapse_cl.system.distributed import Ranks
from napari_synapse_cl.system.memory import make_room
from napari_synapse_cl.training.objectives import Objective, of_pairs
from napari_synapse_cl.training.objectives.base import describe
from napari_synapse_cl.training.schedule import learning_rate, stages_waiting

MakeViews = Callable[[np.ndarray, int], Tensor]
"""Makes ``(2n, 1, D, H, W)`` views of n synapses in an epoch, all first before all second ones."""


@dataclass(frozen=True)
class Embedded:
    """What the networks make of a batch of N synapses."""

    pooled: Tensor
    """``(N, 2, C)`` pooled features of both views."""
    targets: Tensor | None
    """``(N, 2, K)`` embeddings by the encoder; None where the objective has none."""
    described: Tensor | None
    """``(N, 2, L)`` statistics of the views; None without a task to tell them."""


class FullBatch:
    """Computes with batches that may be larger than what goes through the backbone at once.

    Batch norms of the backbone see the parts one by one; those of the head see the whole batch.

    Parameters
    ----------
    model, objective
        What is trained, and for what; on the device.
    make_views
        Makes the views; the same of the same synapses and epoch every time.
    ranks
        The processes that share the work.

    Attributes
    ----------
    precision
        Of the backbone.
    micro_batch_size
        How many synapses go through the backbone at once in this process.
    part_bytes
        Bytes of main memory that so many take, as far as is known; room is made for them.
    """

    def __init__(
        self,
        model: ContrastiveModel,
        objective: Objective,
        make_views: MakeViews,
        device: torch.device,
        ranks: Ranks,
    ) -> None:
        self.precision = "float32"
        self.micro_batch_size = 1
        self.part_bytes = 0
        self._model = model
        self._objective = objective
        self._make_views = make_views
        self._device = device
        self._ranks = ranks

    def backward(
        self, synapses: np.ndarray, epoch: int, shown: np.ndarray | None = None
    ) -> tuple[float, Tensor | None]:
        """Set the gradients of all weights to those of the loss of a batch.

        Parameters
        ----------
        synapses
            ``(N,)``, which synapses are in the batch.
        shown
            ``(N, 2)``, which synapse each view is of; None for these themselves.

        Returns
        -------
        loss : float
            That of the batch.
        targets : Tensor or None
            ``(N, 2, K)`` embeddings of the batch by the encoder.
        """
        model, parts = self._model, self._parts(synapses)
        backbone = [p for p in model.backbone.features.parameters() if p.requires_grad]
        graphs: list[Tensor] = []
        if len(parts) == 1 and backbone:
            only = self._through(parts[0], epoch)
            graphs.append(only.pooled)
            embedded = self._gathered([replace(only, pooled=only.pooled.detach())])
        else:
            embedded = self.embed(synapses, epoch)
        features = embedded.pooled.requires_grad_(bool(backbone))
        if shown is None:
            shown = np.stack([synapses, synapses], axis=1)
        loss = self._objective.loss(
            of_pairs(model.head, features), embedded.targets, torch.from_numpy(shown)
        )
        loss = self._objective.with_texture(loss, features, embedded.described)
        model.zero_grad(set_to_none=True)
        self._objective.zero_grad(set_to_none=True)
        loss.backward()
        if backbone:
            assert features.grad is not None
            rows = self._ranks.share_of(np.arange(len(synapses)))
            gradients = features.grad[rows[0] : rows[-1] + 1].split([len(part) for part in parts])
            for part, gradient in zip(parts, gradients, strict=True):
                again = graphs.pop() if graphs else self._through(part, epoch, again=True).pooled
                again.backward(gradient)
            self._ranks.sum_gradients(backbone)
            self._ranks.average_statistics(model.backbone.features)
        return loss.item(), embedded.targets

    @torch.no_grad()
    def embed(self, synapses: np.ndarray, epoch: int) -> Embedded:
        """Return what the networks make of a batch, and keep nothing for a backward pass.

        Running statistics of the backbone stay as they are.
        """
        with statistics_kept(self._model.backbone):
            return self._gathered([self._through(part, epoch) for part in self._parts(synapses)])

    @torch.no_grad()
    def pool(self, synapses: np.ndarray, read: Callable[[np.ndarray], Tensor]) -> Tensor:
        """Return ``(N, C)`` pooled features of one crop of each synapse.

        Parameters
        ----------
        synapses
            ``(N,)``.
        read
            Reads ``(n, 1, D, H, W)`` crops of some of them.
        """
        found = [torch.zeros(0, self._model.architecture.fmaps[-1], device=self._device)]
        for part in self._parts(synapses):
            if len(part):
                make_room(self.part_bytes)
                crops = read(part)
                with autocast(self._device, self.precision):
                    found.append(self._model.pooled(crops))
        return self._ranks.gather(torch.cat(found))

    def reads(self, synapses: np.ndarray) -> list[np.ndarray]:
        """Return the synapses whose views :meth:`backward` makes, one part after the other."""
        parts = [part for part in self._parts(synapses) if len(part)]
        trained = any(p.requires_grad for p in self._model.backbone.features.parameters())
        return 2 * parts if trained and len(parts) > 1 else parts

    def _parts(self, synapses: np.ndarray) -> list[np.ndarray]:
        """Divide what this process has of a batch, as evenly as can be."""
        own = self._ranks.share_of(synapses)
        return np.array_split(own, max(1, ceil(len(own) / self.micro_batch_size)))

    def _through(self, synapses: np.ndarray, epoch: int, *, again: bool = False) -> Embedded:
        """Return what the networks make of a part; pooled features alone if it comes again."""
        objective = self._objective
        encoder = None if again else objective.encoder
        texture = None if again else objective.texture
        if not len(synapses):
            # A process may have nothing of a small batch.
            none = torch.zeros(0, 2, self._model.architecture.fmaps[-1], device=self._device)
            nothing = none.new_zeros(0, 2, texture.n_statistics) if texture else None
            return Embedded(none, none if encoder is not None else None, nothing)
        make_room(self.part_bytes)
        views = self._make_views(synapses, epoch)
        with autocast(self._device, self.precision):
            pooled, targets = _as_pairs(self._model.pooled(views)), None
            if encoder is not None:
                with torch.no_grad():
                    targets = _as_pairs(encoder.pooled(views))
        return Embedded(pooled, targets, _as_pairs(describe(views)) if texture else None)

    def _gathered(self, parts: Sequence[Embedded]) -> Embedded:
        """Join what was made of all parts in all processes."""
        pooled = self._ranks.gather(torch.cat([part.pooled for part in parts]))
        targets, described = (
            self._ranks.gather(torch.cat(found)) if found else None
            for found in (
                [part.targets for part in parts if part.targets is not None],
                [part.described for part in parts if part.described is not None],
            )
        )
        encoder = self._objective.encoder
        if encoder is not None:
            assert targets is not None
            with torch.no_grad():
                targets = of_pairs(encoder.head, targets)
        return Embedded(pooled, targets, described)


def _as_pairs(views: Tensor) -> Tensor:
    """Turn ``(2n, C)``, all first before all second views, into ``(n, 2, C)``."""
    return torch.stack(views.chunk(2), dim=1)


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

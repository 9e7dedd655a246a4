"""Contrastive training as an iterator of events."""

import time
from collections.abc import Iterator
from math import cos, pi
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from napari_synapse_cl import augmentations
from napari_synapse_cl.config import Config
from napari_synapse_cl.data.crops import CropSource
from napari_synapse_cl.data.split import Split, divide
from napari_synapse_cl.devices import autocast, to_device
from napari_synapse_cl.errors import InputError, JobError
from napari_synapse_cl.events import (
    CheckpointSaved,
    EpochDone,
    Event,
    Finished,
    Started,
    StepDone,
)
from napari_synapse_cl.models.checkpoints import save_checkpoint
from napari_synapse_cl.models.losses import nt_xent
from napari_synapse_cl.models.projection import ContrastiveModel
from napari_synapse_cl.training.runs import RunFolder

VALIDATION_EPOCH = 0
"""The epoch number whose augmentations the validation sees every time."""


def learning_rate(step: int, total_steps: int, config: Config) -> float:
    """Return the learning rate of a step counted from 0: linear warm-up, then cosine decay.

    References
    ----------
    Loshchilov, Hutter: SGDR: Stochastic Gradient Descent with Warm Restarts, 2017, equation 5,
    without restarts. https://arxiv.org/abs/1608.03983
    """
    warmup = round(config.warmup_fraction * total_steps)
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    return config.learning_rate * (1 + cos(pi * (step - warmup) / (total_steps - warmup))) / 2


class Trainer:
    """Train a contrastive model on crops; :meth:`run` yields what happens.

    All randomness is drawn from the seed, the epoch and the synapse, so a training that goes on
    from a checkpoint takes the very steps it would have taken.

    Parameters
    ----------
    model
        The model to train, in place.
    crops
        Crops with the context that the augmentations need.
    split
        Which synapses train and which validate.
    config
        Settings. A batch larger than the training set is lowered to it.
    device, precision
        Where and how precisely to compute.
    voxel_size
        Voxel size along z, y, x, in any unit.
    folder
        Where checkpoints go.
    """

    def __init__(
        self,
        model: ContrastiveModel,
        crops: CropSource,
        split: Split,
        config: Config,
        *,
        device: torch.device,
        precision: str,
        voxel_size: tuple[float, float, float],
        folder: RunFolder,
    ) -> None:
        to_device(model, device)
        self.model = model
        self.crops = crops
        self.split = split
        self.config = config
        self.device = device
        self.precision = precision
        self.voxel_size = voxel_size
        self.folder = folder
        batches = divide(len(split.training), config.batch_size)
        self.batch_size, self.steps_per_epoch = batches.size, batches.per_epoch
        self.total_steps = self.steps_per_epoch * config.num_epochs
        self.step = 0
        self._saved_step = -1
        self._best_loss = float("inf")
        self._epoch_losses: list[float] = []
        self._stopping = False
        self._optimizer = make_optimizer(model, config)

    def stop(self) -> None:
        """End after the step that is under way, and keep a checkpoint of it."""
        self._stopping = True

    def restore(self, checkpoint: dict[str, Any]) -> None:
        """Go on from the content of a checkpoint of this training.

        Raises
        ------
        InputError
            If it is no checkpoint of a training with this model.
        """
        try:
            features = {
                name.removeprefix("features."): tensor
                for name, tensor in checkpoint["model_state_dict"].items()
            }
            self.model.backbone.features.load_state_dict(features)
            self.model.head.load_state_dict(checkpoint["head_state_dict"])
            self._optimizer.load_state_dict(checkpoint["optimizer_state_dict"])
            self.step = self._saved_step = int(checkpoint["step"])
            self._best_loss = float(checkpoint["best_loss"])
            self._epoch_losses = list(checkpoint["epoch_losses"])
        except (KeyError, ValueError, RuntimeError) as error:
            raise InputError(
                f"{self.folder.last_checkpoint} does not fit this training: {error}"
            ) from None

    def run(self) -> Iterator[Event]:
        """Train until the last epoch or :meth:`stop`, yielding an event for all that happens.

        A consumer that stops iterating ends the training between two steps; a checkpoint is kept.

        Raises
        ------
        JobError
            If memory or disk runs out or the loss is not finite. The last checkpoint is kept.
        """
        yield Started(
            run=str(self.folder.path),
            device=str(self.device),
            precision=self.precision,
            n_training=len(self.split.training),
            n_validation=len(self.split.validation),
            batch_size=self.batch_size,
            steps_per_epoch=self.steps_per_epoch,
            total_steps=self.total_steps,
            step=self.step,
        )
        try:
            while self.step < self.total_steps and not self._stopping:
                yield self._train_step()
                if self.step % self.steps_per_epoch == 0:
                    yield self._end_epoch()
                    yield self._keep()
            if self._saved_step != self.step:
                yield self._keep()
        except GeneratorExit:
            if self._saved_step != self.step:
                self._keep()
            raise
        except torch.OutOfMemoryError as error:
            raise JobError(
                f"the device {self.device} ran out of memory in step {self.step + 1} with "
                f"{self.batch_size} pairs of {' × '.join(map(str, self.config.crop_size))} voxels; "
                "lower batch_size or crop_size"
            ) from error
        yield Finished(
            outcome="completed" if self.step == self.total_steps else "stopped",
            step=self.step,
            checkpoint=str(self.folder.last_checkpoint),
        )

    def _train_step(self) -> StepDone:
        start = time.perf_counter()
        epoch = self.step // self.steps_per_epoch + 1
        rate = learning_rate(self.step, self.total_steps, self.config)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self.model.train()
        loss = self._loss(self._batch(epoch), epoch)
        value = loss.item()
        if not np.isfinite(value):
            raise JobError(
                f"the loss of step {self.step + 1} is not finite, so training was ended before it "
                "could spoil the weights; lower the learning rate or raise the temperature"
            )
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._optimizer.step()
        self.step += 1
        self._epoch_losses.append(value)
        seconds = time.perf_counter() - start
        return StepDone(epoch, self.step, value, rate, self.batch_size / seconds)

    def _batch(self, epoch: int) -> np.ndarray:
        """Return the synapses of the step that comes next."""
        order = np.random.default_rng([self.config.seed, epoch]).permutation(self.split.training)
        first = self.step % self.steps_per_epoch * self.batch_size
        return order[first : first + self.batch_size]

    def _loss(self, synapses: np.ndarray, epoch: int) -> Tensor:
        crops = torch.from_numpy(self.crops.read(synapses.tolist())).to(self.device)
        rows = self.crops.positions.rows[synapses]
        pair = augmentations.draw_pair(self.config, self.config.seed, epoch, rows)
        views = torch.cat(
            [
                augmentations.apply(crops, view, self.config.crop_size, self.voxel_size)
                for view in pair
            ]
        )
        views = views.contiguous(memory_format=torch.channels_last_3d)
        with autocast(self.device, self.precision):
            embeddings = self.model(views)
        z1, z2 = embeddings.chunk(2)
        return nt_xent(z1, z2, temperature=self.config.temperature)

    def _end_epoch(self) -> EpochDone:
        epoch = self.step // self.steps_per_epoch
        training_loss = float(np.mean(self._epoch_losses))
        self._epoch_losses = []
        validation_loss = self._validate()
        judged = training_loss if validation_loss is None else validation_loss
        best = judged < self._best_loss
        self._best_loss = min(judged, self._best_loss)
        if best:
            self._save(self.folder.best_checkpoint)
        return EpochDone(epoch, self.step, training_loss, validation_loss, best)

    @torch.inference_mode()
    def _validate(self) -> float | None:
        """Return the loss on the held-out synapses, always on the same views of them."""
        n = len(self.split.validation)
        if n == 0:
            return None
        self.model.eval()
        # Parts of nearly equal size: the loss depends on the number of negatives.
        parts = np.array_split(self.split.validation, max(1, n // self.batch_size))
        losses = [self._loss(part, VALIDATION_EPOCH).item() * len(part) for part in parts]
        return sum(losses) / n

    def _keep(self) -> CheckpointSaved:
        self._save(self.folder.last_checkpoint)
        self._saved_step = self.step
        return CheckpointSaved(str(self.folder.last_checkpoint), self.step)

    def _save(self, path: Path) -> None:
        try:
            save_checkpoint(
                path,
                self.model.backbone,
                self.model.architecture,
                head_state_dict=self.model.head.state_dict(),
                optimizer_state_dict=self._optimizer.state_dict(),
                step=self.step,
                epoch_losses=self._epoch_losses,
                best_loss=self._best_loss,
                device=str(self.device),
                precision=self.precision,
                config=self.config.as_json(),
            )
        # torch.save reports a full disk as RuntimeError.
        except (OSError, RuntimeError) as error:
            raise JobError(
                f"the checkpoint {path} cannot be written: {error}. The one before it is intact"
            ) from error


def make_optimizer(model: ContrastiveModel, config: Config) -> torch.optim.AdamW:
    """Make AdamW, without decay on biases and batch norms.

    References
    ----------
    Loshchilov, Hutter: Decoupled Weight Decay Regularization, 2019.
    https://arxiv.org/abs/1711.05101
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate)

"""Contrastive training as an iterator of events."""

import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from traceback import clear_frames
from typing import Any

import numpy as np
import torch
from torch import Tensor

from napari_synapse_cl import augmentations
from napari_synapse_cl.config import Config
from napari_synapse_cl.data.crops import CropSource
from napari_synapse_cl.data.split import Split
from napari_synapse_cl.devices import autocast, memory_in_use, to_device
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
from napari_synapse_cl.training.monitors import Monitors, measure
from napari_synapse_cl.training.runs import RunFolder
from napari_synapse_cl.training.schedule import Schedule, learning_rate
from napari_synapse_cl.training.shortage import advice, is_shortage

MOST_MEASURED = 4096
"""Held-out synapses on which the monitors are measured; of more, as many are taken evenly."""
VALIDATION_EPOCH = 0
"""The epoch number whose augmentations the validation sees every time."""


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
        self.schedule = Schedule.plan(config, len(split.training))
        self.step = 0
        self._saved_step = -1
        self._best_loss = float("inf")
        self._epoch_losses: list[float] = []
        self._stopping = False
        self._keeping = True
        self._optimizer = make_optimizer(model, config)

    def stop(self, *, keep: bool = True) -> None:
        """End after the step that is under way, and keep a checkpoint of it unless told not to."""
        self._stopping = True
        self._keeping = keep

    def restore(self, checkpoint: dict[str, Any]) -> None:
        """Go on from the content of a checkpoint of this training.

        If that had larger batches, the epoch it was within begins anew, and the best loss too:
        losses with more negatives are higher.

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
            self.step = self._saved_step = self.schedule.steps_done(checkpoint)
            if self.schedule.continues(checkpoint):
                self._best_loss = float(checkpoint["best_loss"])
                self._epoch_losses = list(checkpoint["epoch_losses"])
        except (KeyError, ValueError, RuntimeError) as error:
            raise InputError(
                f"{self.folder.last_checkpoint} does not fit this training: {error}"
            ) from None

    def run(self) -> Iterator[Event]:
        """Train until the last epoch or :meth:`stop`, yielding an event for all that happens.

        A consumer that stops iterating ends the training between two steps; a checkpoint is kept.
        Where no step was taken, or none is to be kept, there is no `Finished`.

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
            batch_size=self.schedule.batch_size,
            steps_per_epoch=self.schedule.steps_per_epoch,
            total_steps=self.schedule.total_steps,
            step=self.step,
        )
        try:
            while self.step < self.schedule.total_steps and not self._stopping:
                yield self._train_step()
                if self.step % self.schedule.steps_per_epoch == 0:
                    yield self._end_epoch()
                    yield self._keep()
            if self._is_worth_keeping:
                yield self._keep()
        except GeneratorExit:
            if self._is_worth_keeping:
                self._keep()
            raise
        except (RuntimeError, MemoryError) as error:
            if not is_shortage(error):
                raise
            # They hold what the step had taken.
            clear_frames(error.__traceback__)
            raise JobError(self._shortage()) from error
        if self.step > 0 and self._keeping:
            yield self._finished()

    @property
    def _is_worth_keeping(self) -> bool:
        return self._keeping and self.step > 0 and self._saved_step != self.step

    def _finished(self) -> Finished:
        return Finished(
            outcome="completed" if self.step == self.schedule.total_steps else "stopped",
            step=self.step,
            checkpoint=str(self.folder.last_checkpoint),
        )

    def _shortage(self) -> str:
        """Say in words that memory has run out, and what to do."""
        trained = [p for p in self.model.parameters() if p.requires_grad]
        self._optimizer.zero_grad(set_to_none=True)
        # A gradient for each weight, and two moments where they are not there yet.
        copies = 1 if self._optimizer.state else 3
        advised = advice(
            self.model,
            self.config,
            self.schedule.batch_size,
            self.device,
            self.precision,
            more_bytes=copies * sum(p.nbytes for p in trained),
        )
        return (
            f"memory ran out on {self.device} in step {self.step + 1}, with "
            f"{self.schedule.batch_size} pairs of {' × '.join(map(str, self.config.crop_size))} "
            f"voxels; {advised}"
        )

    def _train_step(self) -> StepDone:
        start = time.perf_counter()
        epoch = self.step // self.schedule.steps_per_epoch + 1
        rate = learning_rate(self.step, self.schedule.total_steps, self.config)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self.model.train()
        loss = self._loss(*self._embed(self._batch(epoch), epoch))
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
        return StepDone(
            epoch=epoch,
            step=self.step,
            loss=value,
            learning_rate=rate,
            crops_per_second=self.schedule.batch_size / seconds,
            memory_gib=memory_in_use(self.device),
        )

    def _batch(self, epoch: int) -> np.ndarray:
        """Return the synapses of the step that comes next."""
        order = np.random.default_rng([self.config.seed, epoch]).permutation(self.split.training)
        first = self.step % self.schedule.steps_per_epoch * self.schedule.batch_size
        return order[first : first + self.schedule.batch_size]

    def _embed(self, synapses: np.ndarray, epoch: int) -> tuple[Tensor, Tensor]:
        """Return the embeddings of both views of some synapses."""
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
        return z1, z2

    def _loss(self, z1: Tensor, z2: Tensor) -> Tensor:
        return nt_xent(z1, z2, temperature=self.config.temperature)

    def _end_epoch(self) -> EpochDone:
        epoch = self.step // self.schedule.steps_per_epoch
        training_loss = float(np.mean(self._epoch_losses))
        self._epoch_losses = []
        validation_loss, monitors = self._validate() or (None, None)
        judged = training_loss if validation_loss is None else validation_loss
        best = judged < self._best_loss
        self._best_loss = min(judged, self._best_loss)
        if best:
            self._save(self.folder.best_checkpoint)
        return EpochDone(
            epoch=epoch,
            step=self.step,
            training_loss=training_loss,
            validation_loss=validation_loss,
            best=best,
            **(asdict(monitors) if monitors else {}),
        )

    @torch.inference_mode()
    def _validate(self) -> tuple[float, Monitors] | None:
        """Return loss and monitors on the held-out synapses, always on the same views of them."""
        n = len(self.split.validation)
        if n == 0:
            return None
        self.model.eval()
        # Parts of nearly equal size: the loss depends on the number of negatives.
        parts = np.array_split(self.split.validation, max(1, n // self.schedule.batch_size))
        pairs = [self._embed(part, VALIDATION_EPOCH) for part in parts]
        losses = [self._loss(z1, z2).item() * len(z1) for z1, z2 in pairs]
        z1, z2 = (torch.cat(views) for views in zip(*pairs, strict=True))
        # Comparing all with all would take longer than the epoch where there are very many.
        some = np.unique(np.linspace(0, n - 1, min(n, MOST_MEASURED)).astype(int))
        return sum(losses) / n, measure(z1[some], z2[some])

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
                batch_size=self.schedule.batch_size,
                steps_per_epoch=self.schedule.steps_per_epoch,
                epoch_losses=self._epoch_losses,
                best_loss=self._best_loss,
                device=str(self.device),
                precision=self.precision,
                config=self.config.as_json(),
            )
        # torch.save reports a full disk as RuntimeError.
        except (OSError, RuntimeError) as error:
            if not self.folder.path.is_dir():
                raise JobError(self.folder.why_unwritable(error)) from error
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

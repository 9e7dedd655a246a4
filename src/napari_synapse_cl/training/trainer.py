"""Contrastive training as an iterator of events."""

import time
from collections.abc import Generator, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from traceback import clear_frames
from typing import Any

import numpy as np
import torch
from torch import Tensor

from napari_synapse_cl.config import Config
from napari_synapse_cl.data.crops.sources import CropSource
from napari_synapse_cl.data.split import Split
from napari_synapse_cl.errors import InputError, JobError
from napari_synapse_cl.models.norms import weigh_first_batches
from napari_synapse_cl.models.vgg3d import ContrastiveModel
from napari_synapse_cl.runs.events import (
    CheckpointSaved,
    EpochDone,
    Event,
    Finished,
    Message,
    Started,
    StepDone,
)
from napari_synapse_cl.runs.folder import RunFolder
from napari_synapse_cl.system.devices import memory_in_use, to_device
from napari_synapse_cl.system.distributed import ALONE, Ranks
from napari_synapse_cl.system.memory import is_shortage, stop_keeping
from napari_synapse_cl.system.words import counted
from napari_synapse_cl.training.memory.measure import step_memory, what_happened, what_to_change
from napari_synapse_cl.training.memory.plan import StepMemory, StepPlan
from napari_synapse_cl.training.objectives import chance_loss, make_objective
from napari_synapse_cl.training.partners import Partners
from napari_synapse_cl.training.schedule import Order, Schedule, Selection
from napari_synapse_cl.training.step import FullBatch, Optimization
from napari_synapse_cl.training.training_state import Keeper
from napari_synapse_cl.training.validation import Labelled, Validation
from napari_synapse_cl.training.views import Views


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
    plan
        How to compute a step. When memory runs out it is changed, as far as the settings leave it
        open.
    memory
        What a step takes, as far as that is known.
    voxel_size
        Voxel size along z, y, x, in any unit.
    folder
        Where checkpoints go.
    labelled
        By which synapses nearest neighbours are judged in each epoch, if at all.
    partners
        Which synapse the second view of each is of; None for its own.
    cells
        ``(N,)`` int64, which cell the synapse of each crop is of, below 0 where that is not known.
    ranks
        The processes that train together; the main one writes.
    """

    def __init__(
        self,
        model: ContrastiveModel,
        crops: CropSource,
        split: Split,
        config: Config,
        *,
        device: torch.device,
        plan: StepPlan,
        memory: StepMemory | None = None,
        voxel_size: tuple[float, float, float],
        folder: RunFolder,
        labelled: Labelled | None = None,
        partners: Partners | None = None,
        cells: np.ndarray | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        to_device(model, device)
        if ranks.size > 1 and device.type == "cuda":
            model.synchronise_batch_norms()
        self.model = model
        self.split = split
        self.config = config
        self.device = device
        self.folder = folder
        self.ranks = ranks
        self.schedule = Schedule.plan(config, len(split.training), ranks.size)
        self.objective = make_objective(model, config, cells)
        to_device(self.objective, device)
        self.step = 0
        self._saved_step = -1
        self._epoch_losses: list[float] = []
        self._stopping = False
        self._keeping = True
        self._optimization = Optimization(model, self.objective, config, self.schedule.total_steps)
        self._order = Order(config.seed, split.training, self.schedule)
        views = self._views = Views(crops, config, device, voxel_size, partners)
        self._keeper = Keeper(folder, model, self.objective, self._optimization.optimizer, config)
        self._batch = FullBatch(model, self.objective, views.augmented, device, ranks)
        self._validation = Validation(
            model,
            self.objective,
            self._batch,
            split,
            self.schedule.batch_size,
            labelled,
            views.plain,
        )
        self._selection = Selection(config, has_validation=len(split.validation) > 0)
        self._memory = memory
        self._measured = partial(step_memory, model, config, voxel_size, device)
        self._follow(plan)

    def stop(self, *, keep: bool = True) -> None:
        """End after the step that is under way, and keep a checkpoint of it unless told not to."""
        self._stopping = True
        self._keeping = keep

    def restore(self, checkpoint: dict[str, Any]) -> None:
        """Go on from the content of a checkpoint of this training.

        If that had larger batches, the epoch it was within begins anew, and the search for the best
        too: losses with more negatives are higher.

        Raises
        ------
        InputError
            If it is no checkpoint of a training with this model.
        """
        try:
            self._keeper.restore(checkpoint)
            self.step = self._saved_step = self.schedule.steps_done(checkpoint)
            if self.schedule.continues(checkpoint):
                self._selection.restore(checkpoint["selection"])
                self._epoch_losses = list(checkpoint["epoch_losses"])
        except (LookupError, TypeError, AttributeError, ValueError, RuntimeError) as error:
            raise InputError(
                f"{self.folder.last_checkpoint} does not fit this training: {error}"
            ) from None

    def run(self) -> Generator[Event, None, None]:
        """Train until the last epoch or :meth:`stop`, yielding an event for all that happens.

        A consumer that stops iterating ends the training between two steps; a checkpoint is kept.
        Where no step was taken, or none is to be kept, there is no `Finished`.

        Raises
        ------
        JobError
            If memory or disk runs out or the loss is not finite. The last checkpoint is kept.
        """
        yield self._started()
        try:
            with self._views.reading_ahead(self._reads()):
                while not self._is_complete and not self._stopping:
                    yield from self._take_step()
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
            self._optimization.optimizer.zero_grad(set_to_none=True)
            raise JobError(
                f"{self._what_happened()}; {what_to_change(self.config, self.device)}"
            ) from error
        if self._selection.waited_enough and self.step < self.schedule.total_steps:
            yield Message(self._why_early())
        if self.step > 0 and self._keeping:
            yield Finished(
                outcome="completed" if self._is_complete else "stopped",
                step=self.step,
                checkpoint=str(self.folder.last_checkpoint),
            )

    @property
    def _is_complete(self) -> bool:
        return self.step >= self.schedule.total_steps or self._selection.waited_enough

    @property
    def _is_worth_keeping(self) -> bool:
        return self._keeping and self.step > 0 and self._saved_step != self.step

    def _started(self) -> Started:
        return Started(
            run=str(self.folder.path),
            device=str(self.device),
            precision=self._plan.precision,
            n_training=len(self.split.training),
            n_validation=len(self.split.validation),
            batch_size=self.schedule.batch_size,
            steps_per_epoch=self.schedule.steps_per_epoch,
            total_steps=self.schedule.total_steps,
            step=self.step,
            chance_loss=chance_loss(self.config, self.schedule.batch_size),
        )

    def _why_early(self) -> str:
        epochs = counted(self.config.early_stopping, "epoch")
        return (
            f"the training was stopped early: {self._selection.metric} has not improved for "
            f"{epochs}, and was best in epoch {self._selection.best_epoch}, whose network is "
            f"{self.folder.best_checkpoint}"
        )

    def _take_step(self) -> Iterator[Event]:
        """Take a step; if memory runs out, once more in a way that takes less."""
        start = time.perf_counter()
        epoch, synapses = self._order.of_step(self.step)
        rate = self._optimization.prepare(self.step)
        buffers = [b for m in (self.model, self.objective) for b in m.buffers()]
        before = [buffer.clone() for buffer in buffers]
        try:
            loss, targets = self._backward(synapses, epoch)
        except (RuntimeError, MemoryError) as error:
            if not is_shortage(error):
                raise
            clear_frames(error.__traceback__)
            yield self._plan_anew()
            self._views.expect(self._reads())
            for buffer, value in zip(buffers, before, strict=True):
                buffer.copy_(value)
            loss, targets = self._backward(synapses, epoch)
        if not np.isfinite(loss):
            raise JobError(
                f"the loss of step {self.step + 1} is not finite, so training was ended before it "
                "could spoil the weights; lower the learning rate or raise the temperature"
            )
        self._optimization.take_step()
        self.step += 1
        progress = self.step / self.schedule.total_steps
        shown = torch.from_numpy(self._views.shown(synapses, epoch))
        self.objective.after_step(self.model, targets, shown, progress)
        self._epoch_losses.append(loss)
        seconds = time.perf_counter() - start
        yield StepDone(
            epoch=epoch,
            step=self.step,
            loss=loss,
            learning_rate=rate,
            crops_per_second=self.schedule.batch_size / seconds,
            memory_gib=memory_in_use(self.device),
        )

    def _backward(self, synapses: np.ndarray, epoch: int) -> tuple[float, Tensor | None]:
        for module in (self.model, self.objective):
            module.train()
            weigh_first_batches(module)
        return self._batch.backward(synapses, epoch, self._views.shown(synapses, epoch))

    def _reads(self) -> Iterator[np.ndarray]:
        """Yield the synapses of each read that is to come in training."""
        for step in range(self.step, self.schedule.total_steps):
            epoch, synapses = self._order.of_step(step)
            for part in self._batch.reads(synapses):
                yield self._views.read_for(part, epoch)

    def _end_epoch(self) -> EpochDone:
        epoch = self.step // self.schedule.steps_per_epoch
        values = {"training_loss": float(np.mean(self._epoch_losses)), **self._validation.measure()}
        self._epoch_losses = []
        # Before the event: whoever hears it finds the file.
        if self.ranks.is_main and (found := self._validation.held_out(epoch, self.step)):
            self.folder.keep_held_out(found, replace=self.config.overwrite)
        best = self._selection.take(epoch, values)
        if best:
            self._save(self.folder.best_checkpoint)
        measured: dict[str, Any] = {"validation_loss": None, **values}
        return EpochDone(epoch=epoch, step=self.step, best=best, **measured)

    def _keep(self) -> CheckpointSaved:
        self._save(self.folder.last_checkpoint)
        self._saved_step = self.step
        return CheckpointSaved(str(self.folder.last_checkpoint), self.step)

    def _save(self, path: Path) -> None:
        if not self.ranks.is_main:
            return
        self._keeper.save(
            path,
            step=self.step,
            batch_size=self.schedule.batch_size,
            steps_per_epoch=self.schedule.steps_per_epoch,
            epoch_losses=self._epoch_losses,
            selection=self._selection.state(),
            device=str(self.device),
            plan=asdict(self._plan),
        )

    def _follow(self, plan: StepPlan) -> None:
        self._plan = plan
        self._batch.precision = plan.precision
        self._batch.micro_batch_size = plan.micro_batch_size
        if self._memory is not None and self.device.type != "cuda":
            self._batch.part_bytes = self._memory.bytes_of(plan)
        self.model.checkpointing = plan.checkpointing

    def _plan_anew(self) -> Message:
        """Compute steps in a way that takes less memory from here on, and say so.

        Raises
        ------
        MemoryError
            If there is no such way, or other processes would not know of it.
        """
        happened, failed, n = self._what_happened(), self._plan, self.schedule.batch_size
        if self.ranks.size > 1:
            raise MemoryError
        self._optimization.optimizer.zero_grad(set_to_none=True)
        stop_keeping()
        self._memory = self._measured([failed.precision])
        plan = self._memory.smaller(failed, self.config, n)
        if plan is None:
            raise MemoryError
        self._follow(plan)
        return Message(f"{happened}; from here on {plan.saving(n)}", "warning")

    def _what_happened(self) -> str:
        return what_happened(self.step + 1, self._plan, self.config, self.device)

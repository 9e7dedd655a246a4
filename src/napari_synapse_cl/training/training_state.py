"""Checkpoints of a training: all that it needs to go on as if it had not been interrupted.

One that says what cannot be, or that it cannot go on from, is refused.
"""

from collections.abc import Mapping
from dataclasses import fields
from math import isfinite
from pathlib import Path
from typing import Any

import torch

from napari_synapse_cl.config import Config
from napari_synapse_cl.errors import InputError, JobError, reason
from napari_synapse_cl.models.checkpoints import check_finite, save_checkpoint
from napari_synapse_cl.models.vgg3d import ContrastiveModel
from napari_synapse_cl.runs.folder import RunFolder
from napari_synapse_cl.system.words import shown
from napari_synapse_cl.training.memory.plan import StepPlan
from napari_synapse_cl.training.objectives import Objective

STATES = ("model_state_dict", "head_state_dict", "objective_state_dict")
_NEEDED = {
    *STATES,
    "step",
    "batch_size",
    "steps_per_epoch",
    "plan",
    "config",
    "architecture",
    "epoch_losses",
    "selection",
    "optimizer_state_dict",
}
_MOMENTS = ("exp_avg", "exp_avg_sq")
_SET = ("betas", "eps", "weight_decay", "factor")
"""What the settings decide of an optimiser, beside the learning rate of each step."""
_MOST_RESTARTS = 10
"""An epoch that begins anew with smaller batches lets the optimiser count more steps than it."""


class Keeper:
    """Writes what is trained, and takes it back.

    Parameters
    ----------
    folder
        Where checkpoints go.
    model, objective, optimizer
        What is trained, and how.
    """

    def __init__(
        self,
        folder: RunFolder,
        model: ContrastiveModel,
        objective: Objective,
        optimizer: torch.optim.Optimizer,
        config: Config,
    ) -> None:
        self._folder = folder
        self._model = model
        self._objective = objective
        self._optimizer = optimizer
        self._config = config

    def save(self, path: Path, **more: Any) -> None:
        """Write a checkpoint, whole or not at all.

        Parameters
        ----------
        **more
            How far the training is, in plain types.

        Raises
        ------
        JobError
            If it cannot be written. The one before it is intact.
        """
        try:
            self._folder.owned.claim(path)
            save_checkpoint(
                path,
                self._model.backbone,
                self._model.architecture,
                head_state_dict=self._model.head.state_dict(),
                objective_state_dict=self._objective.state_dict(),
                optimizer_state_dict=self._optimizer.state_dict(),
                config=self._config.as_json(),
                **more,
            )
        # torch.save reports a full disk as RuntimeError.
        except (OSError, RuntimeError) as error:
            if not self._folder.path.is_dir():
                raise JobError(self._folder.why_unwritable(error)) from error
            kept = ". The one before it is intact" if path.exists() else ""
            raise JobError(
                f"the checkpoint {path} cannot be written: {reason(error)}{kept}"
            ) from error

    def restore(self, checkpoint: dict[str, Any]) -> None:
        """Take back what :meth:`save` wrote.

        Raises
        ------
        KeyError, ValueError, RuntimeError
            If it is of another model.
        """
        features = {
            name.removeprefix("features."): tensor
            for name, tensor in checkpoint["model_state_dict"].items()
        }
        self._model.backbone.features.load_state_dict(features)
        self._model.head.load_state_dict(checkpoint["head_state_dict"])
        self._objective.load_state_dict(checkpoint["objective_state_dict"])
        check_options(checkpoint["optimizer_state_dict"], self._optimizer)
        self._optimizer.load_state_dict(checkpoint["optimizer_state_dict"])


def check_sound(checkpoint: Mapping[str, Any], path: Path) -> None:
    """Refuse a checkpoint that says of its training what cannot be.

    Raises
    ------
    InputError
        If something is missing, of another kind, out of its bounds, NaN or infinite.
    """
    if not checkpoint.keys() >= _NEEDED:
        raise InputError(f"{path} is no checkpoint of a training to go on with")
    try:
        most = _checked_progress(checkpoint)
        _check_plan(checkpoint["plan"])
        _check_optimizer(checkpoint["optimizer_state_dict"], most)
    except _UnsoundError as unsound:
        raise InputError(f"{path} is no checkpoint to go on with: its {unsound}") from None
    for name in STATES:
        if not isinstance(checkpoint[name], Mapping):
            raise InputError(f"{path} is no checkpoint to go on with: its {name} holds no tensors")
        check_finite(checkpoint[name], "weights", path)


def check_options(found: Mapping[str, Any], made: torch.optim.Optimizer) -> None:
    """Refuse the state of an optimiser that was not set as the settings say.

    Raises
    ------
    ValueError
        If one of its values is another.
    """
    for before, now in zip(found["param_groups"], made.param_groups, strict=True):
        for name in _SET:
            if name in before and _tuple(before[name]) != _tuple(now[name]):
                raise ValueError(
                    f"its optimiser has {name} {shown(before[name])}, and the settings say "
                    f"{shown(now[name])}"
                )
    shapes = [tuple(p.shape) for group in made.param_groups for p in group["params"]]
    for index, state in found["state"].items():
        for name in _MOMENTS:
            if not 0 <= index < len(shapes) or tuple(state[name].shape) != shapes[index]:
                raise ValueError(f"its optimiser has {name} of another shape than its weights")


class _UnsoundError(Exception):
    """Says which entry is wrong, and how."""


def _whole(values: Mapping[str, Any], name: str, low: int, high: float) -> int:
    value = values.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        bounds = f"a whole number of {low} or more" if high == float("inf") else f"{low} to {high}"
        raise _UnsoundError(f"{name} is {shown(value)}, and {bounds} was expected")
    return value


def _checked_progress(checkpoint: Mapping[str, Any]) -> int:
    """Return how many steps the training has at most."""
    config = checkpoint["config"]
    if not isinstance(config, Mapping):
        raise _UnsoundError(f"config is {shown(config)}")
    n_epochs = _whole(config, "num_epochs", 1, float("inf"))
    _whole(checkpoint, "batch_size", 1, float("inf"))
    most = n_epochs * _whole(checkpoint, "steps_per_epoch", 1, float("inf"))
    _whole(checkpoint, "step", 1, most)
    losses = checkpoint["epoch_losses"]
    if not isinstance(losses, list) or not all(_is_finite(loss) for loss in losses):
        raise _UnsoundError(f"epoch_losses are {shown(losses)}")
    selection = checkpoint["selection"]
    if not isinstance(selection, Mapping):
        raise _UnsoundError(f"selection is {shown(selection)}")
    last = _whole(selection, "last_epoch", 0, n_epochs)
    _whole(selection, "best_epoch", 0, last)
    best = selection.get("best")
    # Before the first epoch has ended the best is infinite.
    if not isinstance(best, int | float) or best != best or best == -float("inf"):
        raise _UnsoundError(f"best value is {shown(best)}")
    return most


def _check_plan(plan: Any) -> None:
    names = {field.name for field in fields(StepPlan)}
    if not isinstance(plan, Mapping) or set(plan) != names:
        raise _UnsoundError(f"plan is {shown(plan)}")
    if plan["precision"] not in ("float32", "bfloat16"):
        raise _UnsoundError(f"precision is {shown(plan['precision'])}")
    if not isinstance(plan["checkpointing"], bool):
        raise _UnsoundError(f"checkpointing is {shown(plan['checkpointing'])}")
    _whole(plan, "micro_batch_size", 1, float("inf"))


def _check_optimizer(optimizer: Any, most: int) -> None:
    states = optimizer.get("state") if isinstance(optimizer, Mapping) else None
    groups = optimizer.get("param_groups") if isinstance(optimizer, Mapping) else None
    if not isinstance(states, Mapping) or not isinstance(groups, list):
        raise _UnsoundError("optimiser holds no state")
    if not states:
        raise _UnsoundError("optimiser has an empty state, after steps that were taken")
    for index, state in states.items():
        if not isinstance(index, int) or not isinstance(state, Mapping):
            raise _UnsoundError(f"optimiser has a state for {shown(index)} that is none")
        step = state.get("step")
        count: Any = float(step) if isinstance(step, torch.Tensor) and step.numel() == 1 else step
        if not _is_finite(count) or not 1 <= float(count) <= _MOST_RESTARTS * most:
            raise _UnsoundError(f"optimiser says that it has taken {shown(count)} steps")
        for name in _MOMENTS:
            moments = state.get(name)
            if not isinstance(moments, torch.Tensor) or not torch.isfinite(moments).all():
                raise _UnsoundError(f"optimiser has an {name} that is missing, NaN or infinite")
        if (state["exp_avg_sq"] < 0).any():
            raise _UnsoundError("optimiser has squares of gradients below 0")
    for group in groups:
        rate: Any = group.get("lr") if isinstance(group, Mapping) else None
        if not _is_finite(rate) or float(rate) < 0:
            raise _UnsoundError(f"optimiser has the learning rate {shown(rate)}")
        if not isinstance(group.get("params"), list):
            raise _UnsoundError("optimiser has a group of no weights")


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value

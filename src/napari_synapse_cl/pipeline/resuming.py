"""What is looked at before a training goes on: that it is the same, and that nobody trains it.

Each function raises :class:`InputError` for what cannot be.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from napari_synapse_cl.config import (
    AugmentationConfig,
    Config,
    CropConfig,
    DataConfig,
    ModelConfig,
    TrainingConfig,
    read_settings,
)
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.models.checkpoints import load_checkpoint
from napari_synapse_cl.pipeline.provenance import Source, changed_sources
from napari_synapse_cl.runs.folder import RunFolder
from napari_synapse_cl.system.words import shown
from napari_synapse_cl.training.memory.plan import StepPlan
from napari_synapse_cl.training.schedule import Schedule
from napari_synapse_cl.training.training_state import check_sound

_FIXED_BY_TRAINING = {
    name
    for section in (DataConfig, CropConfig, AugmentationConfig, ModelConfig, TrainingConfig)
    for name in section.model_fields
} - {"num_epochs", "batch_size", "early_stopping", "cache_dir", "cache_limit"}
_ELSEWHERE = set(DataConfig.model_fields)
"""Where the data are is written anew in the settings of a run that was moved with them; whether
they are the same is told by their hashes."""

_CHANGEABLE = (
    "num_epochs, early_stopping, a lower batch_size, device, precision, activation_checkpointing, "
    "micro_batch_size, caches, and all of extraction, export and logs"
)


def check_that_nobody_trains(folder: RunFolder) -> list[str]:
    """Refuse a run that is being trained; return a warning where that cannot be seen."""
    status = folder.status()
    if status is None and folder.has_status:
        return [
            f"what the run in {folder.path} does cannot be read, since its status.json is damaged "
            "or of another version; make sure that nobody trains it, since two trainings in one "
            "folder overwrite each other"
        ]
    if status is None or status.has_ended:
        return []
    alive = status.is_alive()
    if alive:
        raise InputError(
            f"the run in {folder.path} is being trained by process {status.pid} on this computer: "
            f"wait for its end, or stop it first by writing stop into {folder.commands_file}"
        )
    if alive is None:
        return [
            f"the run in {folder.path} was {status.state} on the computer {status.host} when it "
            "was last heard of; make sure that it has ended there, since two trainings in one "
            "folder overwrite each other"
        ]
    return []


def data_warnings(folder: RunFolder, data: list[Source]) -> list[str]:
    """Warn of data that are others than when a run was started."""
    before = folder.about().get("data", [])
    if not isinstance(before, list) or not all(isinstance(source, dict) for source in before):
        return [
            f"{folder.config_file} is damaged where it tells of the data, so it is not known "
            "whether they have changed since the run was started"
        ]
    changed = changed_sources(before, data)
    if not changed:
        return []
    return [
        f"since the run in {folder.path} was started, its data have changed: {', '.join(changed)}. "
        "It goes on with them as they are now"
    ]


def checkpoint_to_resume(folder: RunFolder, config: Config) -> dict[str, Any] | None:
    """Return the last checkpoint of a run, or None if it was ended before its first."""
    if not folder.holds_run:
        raise InputError(f"{folder.path} holds no run to go on with")
    before = Config.from_values(read_settings(folder.config_file))
    changed = sorted(
        name for name in _FIXED_BY_TRAINING if getattr(before, name) != getattr(config, name)
    )
    if changed:
        was, now = getattr(before, changed[0]), getattr(config, changed[0])
        raise InputError(
            f"{changed[0]} was {was} when the run in {folder.path} was started and cannot become "
            f"{now}: start a new run for that"
            + (f" (also changed: {', '.join(changed[1:])})" if len(changed) > 1 else "")
            + f". What may change is {_CHANGEABLE}"
        )
    if config.batch_size > before.batch_size:
        raise InputError(
            f"batch_size was {before.batch_size} when the run in {folder.path} was trained last; "
            f"it can be lowered, and not be raised to {config.batch_size}: start a new run for that"
        )
    if not folder.last_checkpoint.exists():
        return None
    checkpoint = load_checkpoint(folder.last_checkpoint)
    check_sound(checkpoint, folder.last_checkpoint)
    check_settings(folder, before, checkpoint["config"])
    return checkpoint


def check_settings(folder: RunFolder, stored: Config, trained: Mapping[str, Any]) -> None:
    """Refuse settings of a run that are not those it was trained with, as its checkpoint says."""
    values = stored.as_json()
    for name in sorted((_FIXED_BY_TRAINING - _ELSEWHERE) & trained.keys()):
        if trained[name] != values[name]:
            raise InputError(
                f"{folder.config_file} says {name} {shown(values[name])}, and the run was trained "
                f"with {shown(trained[name])}, as its last checkpoint says: the file was damaged "
                "or changed. Write that there, or start a new run"
            )


def schedule_warnings(schedule: Schedule, checkpoint: dict[str, Any] | None) -> list[str]:
    """Warn of an epoch that begins anew, since batches are smaller now."""
    warnings = []
    if checkpoint is not None and not schedule.continues(checkpoint):
        epoch = schedule.steps_done(checkpoint) // schedule.steps_per_epoch + 1
        warnings.append(
            f"the batch size is now {schedule.batch_size}, after {checkpoint['batch_size']}, so "
            f"the training goes on at the beginning of epoch {epoch}. Losses from before do not "
            "compare with those to come: with fewer negatives the loss is lower"
        )
    return warnings


def plan_before(checkpoint: dict[str, Any], config: Config, batch_size: int) -> StepPlan:
    """Return how steps were computed, but for what the settings say now.

    Measured again it might come out otherwise, and the run would not be the same.
    """
    plan = StepPlan(**checkpoint["plan"])
    if config.precision != "auto":
        plan = replace(plan, precision=config.precision)
    if config.activation_checkpointing != "auto":
        plan = replace(plan, checkpointing=config.activation_checkpointing == "on")
    size = config.micro_batch_size or plan.micro_batch_size
    return replace(plan, micro_batch_size=min(size, batch_size))

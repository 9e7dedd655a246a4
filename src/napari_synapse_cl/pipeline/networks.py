"""Networks that a job begins with: of a file, known to a run, or where a training goes on."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from napari_synapse_cl.config import (
    AugmentationConfig,
    Config,
    CropConfig,
    DataConfig,
    ModelConfig,
    TrainingConfig,
    absolute,
    read_settings,
)
from napari_synapse_cl.data.crops.sources import crop_settings
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.models.architecture import Architecture
from napari_synapse_cl.models.checkpoints import Backbone, load_backbone, load_checkpoint
from napari_synapse_cl.models.vgg3d import ContrastiveModel
from napari_synapse_cl.pipeline.provenance import NetworkOrigin, Source, Which, changed_sources
from napari_synapse_cl.runs.folder import RunFolder
from napari_synapse_cl.system.downloads import local_file
from napari_synapse_cl.system.words import shown
from napari_synapse_cl.training.memory.plan import StepPlan
from napari_synapse_cl.training.schedule import Schedule
from napari_synapse_cl.training.training_state import check_sound


@dataclass(frozen=True)
class OpenedNetwork(Backbone):
    """A network to read layers of."""

    origin: NetworkOrigin
    """Where it comes from."""


def open_network(checkpoint: str | Path, which: Which) -> OpenedNetwork:
    """Open a network of a run, or that of a checkpoint file.

    Parameters
    ----------
    checkpoint
        A run folder, or a file, or a URL of one.
    which
        "trained" for that of the file, or of the last step of the run; "best" for that of the
        run's best epoch; "start" for the one that the run started from. For these two
        a file must lie in a run folder.

    Raises
    ------
    InputError
        If there is no such network, or it cannot be read.
    """
    location, checkpoint = str(checkpoint), local_file(checkpoint)
    run = run_of(checkpoint)
    if which == "trained" and not checkpoint.is_dir():
        return _of_file(location, which)
    if run is None:
        if checkpoint.is_dir():
            raise InputError(f"{checkpoint} is no run folder; name one, or a checkpoint file")
        raise InputError(
            f"{checkpoint} lies in no run folder, so there is no {which} network beside it; choose "
            "the network “trained”, or name the folder of a run"
        )
    if which == "start":
        return _start_of(run)
    file = run.best_checkpoint if which == "best" else run.last_checkpoint
    if not file.exists():
        why = "it has no validation" if which == "best" else "it was ended before its first step"
        raise InputError(f"the run in {run.path} has kept no {which} network; perhaps {why}")
    return _of_file(str(file), which)


def run_of(checkpoint: Path) -> RunFolder | None:
    """Return the run that a folder or a checkpoint belongs to, if there is one."""
    for folder in (checkpoint, checkpoint.parent.parent):
        run = RunFolder(folder)
        if run.holds_run:
            return run
    return None


def _of_file(location: str, which: Which) -> OpenedNetwork:
    backbone = load_backbone(local_file(location))
    origin = NetworkOrigin(which, absolute(location), backbone.sha256)
    return OpenedNetwork(**vars(backbone), origin=origin)


def _start_of(run: RunFolder) -> OpenedNetwork:
    config = Config.from_values(read_settings(run.config_file))
    if run.last_checkpoint.exists():
        check_settings(run, config, load_checkpoint(run.last_checkpoint).get("config", {}))
    model = make_model(config)
    if config.pretrained is None:
        origin = NetworkOrigin("start", str(run.path.absolute()), seed=config.seed)
    else:
        origin = NetworkOrigin.of_file(config.pretrained, "start")
    return OpenedNetwork(
        model.backbone,
        model.architecture,
        None,
        config.crop_size,
        config.network_voxel_size or config.voxel_size,
        crop_settings(config),
        origin,
    )


def open_pretrained(config: Config) -> Backbone | None:
    """Open the network that a training starts from, None for one with random weights."""
    return None if config.pretrained is None else load_backbone(local_file(config.pretrained))


def make_model(
    config: Config, checkpoint: dict[str, Any] | None = None, pretrained: Backbone | None = None
) -> ContrastiveModel:
    """Return the network that the settings describe, or that of a checkpoint to go on from.

    Parameters
    ----------
    checkpoint
        What to go on from.
    pretrained
        The network that the settings name, where it was opened already.
    """
    if checkpoint is not None:
        architecture = Architecture.from_dict(checkpoint["architecture"])
        return ContrastiveModel.from_seed(architecture, config, config.seed)
    backbone = pretrained or open_pretrained(config)
    if backbone is None:
        return ContrastiveModel.from_seed(Architecture.from_config(config), config, config.seed)
    model = ContrastiveModel.from_seed(backbone.architecture, config, config.seed)
    model.backbone.load_state_dict(backbone.network.state_dict())
    return model


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
    # As they are kept: a path is the same from wherever it is given.
    kept, given = before.as_json(), config.as_json()
    changed = sorted(name for name in _FIXED_BY_TRAINING if kept[name] != given[name])
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

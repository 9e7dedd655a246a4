"""What is looked at before a training begins: nothing is written for one that cannot.

Each function raises :class:`InputError` for what cannot be used.
"""

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch

from napari_synapse_cl.config import Config
from napari_synapse_cl.data.crops.cache import CachedCrops
from napari_synapse_cl.data.crops.sources import StreamedCrops
from napari_synapse_cl.data.dataset import Dataset
from napari_synapse_cl.data.grey_spread import with_grey_spread
from napari_synapse_cl.data.opening import open_dataset
from napari_synapse_cl.data.split import TOO_FEW, Split, split_of
from napari_synapse_cl.errors import InputError, JobError
from napari_synapse_cl.features.tables import check_format
from napari_synapse_cl.models.architecture import Architecture
from napari_synapse_cl.models.export_formats import check_export
from napari_synapse_cl.models.vgg3d import ContrastiveModel
from napari_synapse_cl.pipeline.networks import (
    check_that_nobody_trains,
    checkpoint_to_resume,
    data_warnings,
    make_model,
    open_pretrained,
    plan_before,
    schedule_warnings,
)
from napari_synapse_cl.pipeline.provenance import about_run, sources_of
from napari_synapse_cl.runs.events import Level
from napari_synapse_cl.runs.folder import RunFolder, default_folder
from napari_synapse_cl.runs.recording import check_tensorboard
from napari_synapse_cl.system.devices import choose_device, to_device
from napari_synapse_cl.system.distributed import ALONE, Ranks
from napari_synapse_cl.training.memory.measure import step_memory
from napari_synapse_cl.training.memory.plan import StepMemory, StepPlan
from napari_synapse_cl.training.partners import cells_of
from napari_synapse_cl.training.schedule import Schedule
from napari_synapse_cl.training.validation import Labelled


@dataclass(frozen=True)
class TrainingJob:
    """A training that can begin."""

    config: Config
    folder: RunFolder
    dataset: Dataset
    source: CachedCrops | StreamedCrops
    """Crops with the context that the augmentations need."""
    model: ContrastiveModel
    split: Split
    schedule: Schedule
    device: torch.device
    plan: StepPlan
    memory: StepMemory
    """What a step takes, by which the plan was chosen."""
    cells: np.ndarray | None
    """Which cell the synapse of each crop is of, as in :func:`cells_of`."""
    checkpoint: dict[str, Any] | None
    """What to go on from."""
    notes: list[tuple[str, Level]]
    """What to tell before it begins."""
    about: dict[str, Any]
    """What decides it beside the settings."""
    ranks: Ranks = ALONE
    """The processes that train together."""

    @property
    def labels(self) -> np.ndarray | None:
        """Labels of all crops, from the column that the settings name."""
        if not self.config.label_column:
            return None
        column = self.dataset.table[self.config.label_column].to_numpy()
        return column[self.dataset.positions.rows]

    def without(self, left_out: np.ndarray) -> Self:
        """Return the training without some synapses.

        Raises
        ------
        JobError
            If too few are left.
        """
        split = self.split.without(left_out)
        if len(split.training) < 2:
            raise JobError(
                f"of {len(self.split.training)} crops to train on {len(split.training)} can be "
                "used, and at least 2 are needed"
            )
        schedule = Schedule.plan(self.config, len(split.training), self.ranks.size)
        return replace(self, split=split, schedule=schedule)


def prepare_training(config: Config, ranks: Ranks = ALONE) -> TrainingJob:
    """Check the settings of a training and open what it needs.

    Parameters
    ----------
    ranks
        The processes that train together.
    """
    if config.tensorboard:
        check_tensorboard()
    folder = RunFolder(config.output or default_folder())
    warnings = check_output(folder, config)
    checkpoint = checkpoint_to_resume(folder, config) if config.resume else None
    if config.resume and checkpoint is None and folder.steps_file.exists():
        warnings.append(
            f"there is no {folder.last_checkpoint}, though steps were taken: the training "
            "begins anew with the first"
        )
    config = config.model_copy(update={"output": folder.path, "resume": False})
    pretrained = None if checkpoint else open_pretrained(config)
    if pretrained and pretrained.crop_size and "crop_size" not in config.model_fields_set:
        config = config.model_copy(update={"crop_size": pretrained.crop_size})
    dataset = open_dataset(config, pretrained.voxel_size if pretrained else None)
    config, dataset = with_grey_spread(with_what_was_found(config, dataset), dataset)
    split = split_of(dataset, config)
    if len(split.training) < 2:
        raise InputError(TOO_FEW)
    model = make_model(config, checkpoint, pretrained)
    check_extraction(model.architecture, dataset, config)
    check_export(config.export, model.backbone)
    source = dataset.crop_source(config, dataset.context(config))
    data = sources_of(config, dataset) if ranks.is_main else []
    warnings += data_warnings(folder, data) if checkpoint else []
    device = choose_device(config.device)
    schedule = Schedule.plan(config, len(split.training), ranks.size)
    if config.num_steps:
        # A run that goes on counts in epochs.
        config = config.model_copy(update={"num_epochs": schedule.epochs, "num_steps": 0})
    warnings += schedule_warnings(schedule, checkpoint)
    to_device(model, device)
    share = schedule.batch_size // ranks.size
    preferred = plan_before(checkpoint, config, share) if checkpoint else None
    memory = step_memory(model, config, dataset.voxel_size, device)
    plan, memory = ranks.agree((memory.choose(config, share, preferred), memory))
    if preferred not in (None, plan):
        warnings.append(
            "less memory is free than when this training began, or the device is another, so it "
            "does not go on exactly as it would have"
        )
    notes: list[tuple[str, Level]] = [(text, "warning") for text in warnings]
    cells, told = cells_of(dataset, config)
    notes += [(told, "info")] if told else []
    job = TrainingJob(
        config=config,
        folder=folder,
        dataset=dataset,
        source=source,
        model=model,
        split=split,
        schedule=schedule,
        device=device,
        plan=plan,
        memory=memory,
        cells=cells,
        checkpoint=checkpoint,
        notes=[*notes, *memory.told(plan, share, config.crop_size)],
        about=about_run(folder.config_file, config, plan, device, data, ranks),
        ranks=ranks,
    )
    _check_metric(job)
    return job


def check_output(folder: RunFolder, config: Config) -> list[str]:
    """Check that a training may write to a folder; return what to warn of.

    A new one needs a folder in which nobody's files are, one that goes on its own run.
    """
    if config.resume:
        return check_that_nobody_trains(folder)
    if folder.holds_run:
        raise InputError(
            f"{folder.path} holds a run already; go on with it with --resume, or name another "
            "output folder"
        )
    folder.owned.check_free(config.cache_dir)
    return []


def with_what_was_found(config: Config, dataset: Dataset) -> Config:
    """Return settings that also say what the data were found to be."""
    found: dict[str, Any] = dict(dataset.crops.settings) if dataset.crops is not None else {}
    found["network_voxel_size"] = dataset.known_voxel_size
    return Config.from_values({**config.model_dump(exclude_unset=True), **found})


def _check_metric(job: TrainingJob) -> None:
    """Check that the metric which decides can be measured, where there is a validation at all."""
    if job.config.best_metric != "knn_accuracy" or not len(job.split.validation):
        return
    if job.labels is None:
        raise InputError("best_metric knn_accuracy needs labels: name their column as label_column")
    labelled = Labelled.of(job.labels, job.split)
    if isinstance(labelled, str):
        raise InputError(f"best_metric cannot be knn_accuracy: {labelled}")


def check_extraction(architecture: Architecture | None, dataset: Dataset, config: Config) -> None:
    """Check that a network has the layers that are to be read, and can take crops of this size.

    None stands for no network, where descriptors alone are made.
    """
    if architecture is not None:
        architecture.check_crop_size(config.crop_size)
        for index in config.layer_num:
            architecture.check_layer(index)
    check_format(config.feature_format, dataset.table)
    columns = dataset.table.columns
    if config.label_column and config.label_column not in columns:
        raise InputError(
            f"the synapse table has no column {config.label_column}; it has "
            f"{', '.join(str(column) for column in columns)}"
        )

"""Which network an extraction reads: that of a file, or one of those that a run knows."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_synapse_cl.config import Config, absolute, read_settings
from napari_synapse_cl.data.crops.identity import crop_settings
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.models.architecture import Architecture
from napari_synapse_cl.models.checkpoints import Backbone, load_backbone, load_checkpoint
from napari_synapse_cl.models.projection import ContrastiveModel
from napari_synapse_cl.pipeline.provenance import NetworkOrigin, Which
from napari_synapse_cl.pipeline.resuming import check_settings
from napari_synapse_cl.runs.folder import RunFolder
from napari_synapse_cl.system.downloads import local_file


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

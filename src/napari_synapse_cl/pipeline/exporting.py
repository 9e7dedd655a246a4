"""Export a network: write it for other programs."""

from collections.abc import Generator, Iterator, Mapping
from dataclasses import fields
from pathlib import Path

from torch import Tensor

from napari_synapse_cl.config import RECIPES, Config, recipe_settings, recipe_values
from napari_synapse_cl.errors import InputError, JobError
from napari_synapse_cl.models.bioimageio import TrainingRecord, export_package
from napari_synapse_cl.models.checkpoints import Backbone, load_checkpoint
from napari_synapse_cl.models.export_formats import Export, check_export, export_network
from napari_synapse_cl.models.inference import check_fits, find_state_dict
from napari_synapse_cl.pipeline.extraction_preparation import open_chosen_network
from napari_synapse_cl.pipeline.networks import OpenedNetwork, open_network, run_of
from napari_synapse_cl.pipeline.provenance import NetworkOrigin
from napari_synapse_cl.pipeline.steps import check_absent
from napari_synapse_cl.runs.events import Control, Event, Message, Progress, Wrote
from napari_synapse_cl.runs.folder import RunFolder, default_folder
from napari_synapse_cl.system.downloads import is_cached, is_url, local_file

CLASSIFIER = "classifier."


def export_alone(config: Config, control: Control) -> Iterator[Event]:
    """Export the network that the settings name."""
    opened = open_chosen_network(config)
    check_export(config.export, opened.network)
    if {"onnx", "bioimageio"} & {*config.export}:
        for index in config.layer_num:
            opened.architecture.check_layer(index)
    folder = RunFolder(config.output or default_folder())
    check_absent(exports_of(folder, config), config)
    yield from _export(opened, folder, config, control)


def export_trained(folder: RunFolder, config: Config, control: Control) -> Iterator[Event]:
    """Export the network of a training that has ended into its folder, over older exports of it.

    Raises
    ------
    JobError
        If that cannot be done.
    """
    try:
        opened = open_network(folder.last_checkpoint, "trained")
    except InputError as error:
        raise JobError(f"the network cannot be exported: {error}") from error
    yield from _export(opened, folder, config, control)


def exports_of(folder: RunFolder, config: Config) -> list[Path]:
    """Return where the exports go that the settings ask for."""
    return [folder.export_file(kind) for kind in config.export]


def _export(
    opened: OpenedNetwork, folder: RunFolder, config: Config, control: Control
) -> Iterator[Event]:
    classifier: Mapping[str, Tensor] = {}
    if {"pt", "safetensors"} & {*config.export}:
        classifier = yield from _classifier(opened)
    opened.network.eval()
    backbone = {field.name: getattr(opened, field.name) for field in fields(Backbone)}
    export = Export(**backbone, classifier=classifier, layers=config.layer_num)
    for n_done, kind in enumerate(config.export):
        yield Progress("exporting the network", n_done, len(config.export), "file")
        yield from control.pauses()
        target = folder.export_file(kind)
        if control.stopping:
            yield Message(f"the export was ended before {target.name} was written", "warning")
            return
        with folder.being_written():
            if kind == "bioimageio":
                export_package(target, export, training_record(opened.origin))
            else:
                export_network(target, kind, export)
        yield Wrote("network", str(target))


def _classifier(opened: OpenedNetwork) -> Generator[Event, None, dict[str, Tensor]]:
    """Return the classifier that a network had before it was trained here, as far as it is known.

    With it, the class that the network comes from loads the export strictly.
    """
    # Random weights come from no file.
    if opened.origin.sha256 is None:
        return {}
    content = load_checkpoint(local_file(opened.origin.checkpoint))
    settings = content.get("config")
    pretrained = settings.get("pretrained") if isinstance(settings, dict) else None
    try:
        if pretrained is not None:
            # An export is not to wait for a download.
            if not is_cached(pretrained):
                raise InputError(f"{pretrained} was downloaded and is no longer kept")
            file = local_file(pretrained)
            content = load_checkpoint(file)
            check_fits(find_state_dict(content), opened.network.state_dict(), file)
    except InputError as error:
        yield Message(
            "the classifier of the pretrained network is missing from the export, which PyTorch "
            f"loads with strict=False, or into the features alone: {error}",
            "warning",
        )
        return {}
    state = find_state_dict(content)
    return {name: tensor for name, tensor in state.items() if name.startswith(CLASSIFIER)}


def training_record(origin: NetworkOrigin) -> TrainingRecord:
    """Return how a network was trained, as far as its checkpoint and its run tell it.

    Paths of this computer are left out.
    """
    names = [*recipe_settings(), "seed"]
    settings = {}
    if origin.network != "start" and origin.sha256 is not None:
        file = local_file(origin.checkpoint)
        settings = load_checkpoint(file).get("config", {})
    # Networks of others, and exports, say less.
    if not all(name in settings for name in names):
        return TrainingRecord()
    trained = Config.from_values({name: settings[name] for name in names})
    recipes = (
        recipe
        for recipe in RECIPES
        if all(getattr(trained, name) == v for name, v in recipe_values(recipe).items())
    )
    pretrained = settings.get("pretrained")
    run = run_of(file)
    return TrainingRecord(
        recipe=next(recipes, None),
        pretrained=pretrained if not pretrained or is_url(pretrained) else Path(pretrained).name,
        settings={name: settings[name] for name in names},
        data=[
            {name: source[name] for name in ("what", "hashed", "sha256")}
            for source in ([] if run is None else run.about().get("data", []))
        ],
    )

"""Make jobs that read layers of a network of what is filled in."""

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from napari.layers import Image, Points, Shapes

from napari_synapse_cl.config import AugmentationConfig, Config
from napari_synapse_cl.widgets.base import run_folder
from napari_synapse_cl.widgets.extract.jobs import RegionJob, SynapsesJob
from napari_synapse_cl.widgets.extract.network_panel import NetworkPanel
from napari_synapse_cl.widgets.extract.region import RegionInputs, take_region
from napari_synapse_cl.widgets.forms.form import Form
from napari_synapse_cl.widgets.jobs.inputs import HowToCut, RunInputs
from napari_synapse_cl.widgets.layers.taking import LayerData, take
from napari_synapse_cl.widgets.session import Session

OF_POINTS = (
    "descriptors",
    "pooling",
    "averaging",
    "n_components",
    "crop_size",
    "feature_format",
)
"""Settings that mean nothing for the map of a region."""


class ExtractionRequests:
    """Makes jobs of the settings in a form and of layers.

    Every method raises InputError if something cannot be used.

    Parameters
    ----------
    form
        The settings.
    panel
        The network and its layers.
    session
        That of the viewer, for what the form does not show.
    """

    def __init__(self, form: Form, panel: NetworkPanel, session: Session) -> None:
        self._form = form
        self._panel = panel
        self._settings = session.settings
        self._volumes = session.volumes

    def of_points(self, points: Points, image: Image | None) -> SynapsesJob:
        """Return an extraction of one vector for each point."""
        data = take(image, points, **self._volumes.labels_of(image))
        by_hand = self._form.editor("descriptors").value
        layers = self._panel.table.chosen if by_hand else self._panel.chosen
        config = self._config(layer_num=layers, roles=self._settings["roles"])
        if config.pooling == "none" and config.output is None:
            # What does not go into columns has to stay somewhere.
            config = _with(config, output=run_folder(None))
        return self._synapses_job(data, config, with_context=False)

    def comparison(
        self, points: Points, image: Image | None, label_column: str | None
    ) -> SynapsesJob:
        """Return a comparison of the layers that are ticked; of all convolutions if one is."""
        data = take(image, points, **self._volumes.labels_of(image))
        more: dict[str, Any] = {"compare_layers": True, "seed": self._settings["seed"]}
        more["roles"] = self._settings["roles"]
        more["label_column"] = label_column or ""
        more |= {name: self._settings[name] for name in AugmentationConfig.model_fields}
        if len(self._panel.table.chosen) > 1:
            more["layer_num"] = self._panel.chosen
        return self._synapses_job(data, self._config(**more), with_context=True)

    def of_region(self, image: Image | None, shapes: Shapes | None, depth: int) -> RegionJob:
        """Return an extraction of the map of a volume, or of the box around shapes on it."""
        data = take_region(image, shapes, depth)
        config = self._config(layer_num=self._panel.chosen, dense=True)
        config = _with(config, output=config.output or run_folder(None))
        network = partial(self._panel.read_info, config)
        return RegionJob(RegionInputs(data, config, _temporary_folder(), network))

    def _config(self, **more: Any) -> Config:
        if more.get("layer_num") != ():
            self._panel.require_checkpoint()
        left_out = OF_POINTS if more.get("dense") else ()
        return self._form.config(left_out=left_out, extract_only=True, **more)

    def _synapses_job(self, data: LayerData, config: Config, *, with_context: bool) -> SynapsesJob:
        folder = _temporary_folder()
        if config.output is None:
            # Nobody sees what is in a folder that is removed.
            config = _with(config, figures=False)
        how_to_cut = partial(self._how_to_cut, config, with_context)
        inputs = RunInputs([data], config, folder, how_to_cut)
        return SynapsesJob(inputs, folder, compares=config.compare_layers)

    def _how_to_cut(self, config: Config, with_context: bool) -> HowToCut:
        """Return how to cut crops, as the command line will choose it; for a worker."""
        if config.checkpoint is None:
            return HowToCut(config, None, with_context)
        info = self._panel.read_info(config)
        trained = {**info.crop_settings}
        if info.crop_size is not None:
            trained["crop_size"] = info.crop_size
        seen = Config.from_values({**trained, **config.model_dump(exclude_unset=True)})
        return HowToCut(seen, info.voxel_size, with_context)


def _with(config: Config, **settings: Any) -> Config:
    """Return settings with some changed; those that were not set stay so."""
    return Config.from_values({**config.model_dump(exclude_unset=True), **settings})


def _temporary_folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="synapse_cl_"))

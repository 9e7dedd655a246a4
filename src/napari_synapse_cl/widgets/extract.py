"""The dock widget "Extract features"."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from napari.layers import Points
from napari.utils.notifications import show_info
from napari.viewer import Viewer
from qtpy.QtWidgets import QCheckBox, QHBoxLayout, QLabel, QPushButton

from napari_synapse_cl import __version__
from napari_synapse_cl.config import Config
from napari_synapse_cl.errors import InputError, JobError
from napari_synapse_cl.events import Progress, Wrote
from napari_synapse_cl.widgets.base import JobWidget, run_folder, scrolling
from napari_synapse_cl.widgets.checkpoint_info import CheckpointInfo, read_checkpoint_info
from napari_synapse_cl.widgets.form import Form
from napari_synapse_cl.widgets.inputs import RunInputs, Shape
from napari_synapse_cl.widgets.job import ChildJob, Job
from napari_synapse_cl.widgets.latest import Latest
from napari_synapse_cl.widgets.messages import sentence, tell

ESSENTIAL = ("checkpoint", "layer_num", "pooling", "crop_size", "output")
GROUPS = {"Device and disk": ("device", "precision", "feature_format", "cache_limit")}
PLACEHOLDERS = {
    "checkpoint": "choose a file",
    "crop_size": "that of the training",
    "output": "none: to the layer alone",
}
SHARED = ("layer_num", "pooling", "device", "precision", "feature_format", "cache_limit")
METADATA_KEY = "napari_synapse_cl"


@dataclass(frozen=True)
class Extracted:
    """Features that were read back.

    Attributes
    ----------
    table
        One row a point, one column a channel.
    record
        Where they came from.
    """

    table: pd.DataFrame
    record: dict[str, Any]


class ExtractionJob(ChildJob):
    """An extraction in a temporary folder; its last event is the features.

    Parameters
    ----------
    inputs
        What it works on.
    prefix
        How the names of the feature columns begin.
    """

    def __init__(self, inputs: RunInputs, prefix: str) -> None:
        super().__init__(inputs)
        self._folder = inputs.folder
        self._prefix = prefix

    def events(self) -> Iterator[Any]:
        """Yield what the run tells, then an :class:`Extracted`."""
        try:
            for event in super().events():
                yield event
                if isinstance(event, Wrote) and event.what == "features":
                    yield self._read(Path(event.path))
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _read(self, path: Path) -> Extracted:
        table = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
        columns = [name for name in table.columns if str(name).startswith(self._prefix)]
        record = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        return Extracted(
            table[columns].astype(np.float32), {**record, "napari-synapse-cl": __version__}
        )


class ExtractWidget(JobWidget):
    """Add the features of a network's layer to the synapses of a points layer.

    Parameters
    ----------
    viewer
        The viewer it is docked in.
    """

    kind = "extraction"
    ended_early = "Cancelled; the layer is as it was."

    def __init__(self, viewer: Viewer) -> None:
        super().__init__(viewer)
        self.form = Form(ESSENTIAL, GROUPS, PLACEHOLDERS)
        self.form.share(SHARED, self.session)
        self.layer_name = QLabel()
        self.layer_name.setWordWrap(True)
        self.replace_box = QCheckBox("Replace columns that are there")
        self.replace_box.setToolTip("Overwrite features of the same layer and pooling")
        self.cancel_button = QPushButton("Cancel")
        self.cancel_button.clicked.connect(partial(self.request, "stop"))
        self._info: CheckpointInfo | None = None
        self._preset: Path | None = None
        self._points: Points | None = None
        self._positions = np.empty((0, 3))
        self._prefix = ""
        self._reader = Latest(read_checkpoint_info)
        self._reader.done.connect(self._on_info)
        self._reader.failed.connect(self._on_no_info)
        self.form.editor("checkpoint").changed.connect(self._on_checkpoint)
        self.form.editor("layer_num").changed.connect(self._show_layer_name)
        buttons = QHBoxLayout()
        buttons.addWidget(self.start_button)
        buttons.addWidget(self.cancel_button)
        self.body.addWidget(scrolling(self.form), stretch=1)
        self.body.addWidget(self.layer_name)
        self.body.addWidget(self.replace_box)
        self.body.addLayout(buttons)
        self.body.addWidget(self.status)
        self._show_layer_name()
        self._preset_checkpoint()
        self.session.checkpoint_changed.connect(self._preset_checkpoint)
        self.update_buttons()

    def make_job(self) -> Job:
        """Return the extraction that the form describes."""
        data = self.take_layers()
        points = self.points_box.layer
        assert points is not None
        checkpoint = self._checkpoint()
        if checkpoint is None:
            raise InputError("there is no checkpoint: choose the file of a network")
        config = self.form.config(extract_only=True)
        self._prefix = f"L{config.layer_num}_{config.pooling}"
        there = [name for name in points.features if str(name).startswith(f"{self._prefix}_")]
        if there and not self.replace_box.isChecked():
            raise InputError(
                f"the layer {points.name} has columns {self._prefix}_… already; tick “"
                f"{self.replace_box.text()}”, or choose another layer or pooling"
            )
        self._points, self._positions = points, np.array(points.data)
        folder = Path(tempfile.mkdtemp(prefix="synapse_cl_"))
        inputs = RunInputs(
            data, config, folder, partial(_crop_shape, config, checkpoint, self._info)
        )
        return ExtractionJob(inputs, f"{self._prefix}_")

    def on_event(self, event: Any) -> None:
        """Say how far the extraction is, and add its features to the layer."""
        match event:
            case Progress(task, done, total):
                self.status.setText(f"{task.capitalize()}: {done} of {total}")
                self.show_progress(done, total, task.capitalize())
            case Extracted():
                self._keep(event)

    def on_end(self) -> None:
        """Let go of the layer."""
        self._points = None

    def update_buttons(self) -> None:
        """Enable the buttons that do something now."""
        super().update_buttons()
        self.cancel_button.setEnabled(self.job is not None)

    def _keep(self, extracted: Extracted) -> None:
        points = self._points
        assert points is not None
        same = np.array_equal(points.data, self._positions)
        if not same or points not in self.viewer.layers:
            path = run_folder(None) / f"features_{self._prefix}.csv"
            path.parent.mkdir(parents=True)
            extracted.table.to_csv(path, index=False)
            what = "was changed" if points in self.viewer.layers else "was removed"
            text = (
                f"the layer {points.name} {what} while its features were extracted, so they were "
                f"not added to it; they are in {path}, one row for each point there was"
            )
            tell(JobError(text))
            self.tell_end(sentence(text))
            return
        there = [name for name in points.features if str(name).startswith(f"{self._prefix}_")]
        kept = points.features.drop(columns=there).reset_index(drop=True)
        points.features = pd.concat([kept, extracted.table], axis=1)
        points.metadata.setdefault(METADATA_KEY, {})[self._prefix] = extracted.record
        text = (
            f"The layer {points.name} has {extracted.table.shape[1]} new columns, from "
            f"{extracted.table.columns[0]} on"
        )
        self.tell_end(sentence(text))
        show_info(text)

    def _checkpoint(self) -> Path | None:
        editor = self.form.editor("checkpoint")
        return Path(editor.value) if editor.line_edit.value.strip() else None

    def _preset_checkpoint(self) -> None:
        """Fill in the checkpoint of this viewer's last training, unless another was chosen."""
        last = self.session.last_checkpoint
        if self._checkpoint() in (None, self._preset) and self._checkpoint() != last:
            self._preset = last
            self.form.editor("checkpoint").line_edit.value = str(last or "")

    def _on_checkpoint(self) -> None:
        self._info = None
        checkpoint = self._checkpoint()
        if checkpoint is not None and checkpoint.is_file():
            self.layer_name.setText("Looking into the checkpoint …")
            self._reader.ask(checkpoint)
        else:
            self._show_layer_name()

    def _on_info(self, info: CheckpointInfo) -> None:
        self._info = info
        self._show_layer_name()

    def _on_no_info(self, error: Exception) -> None:
        if not isinstance(error, InputError | JobError):
            raise error
        self.layer_name.setText(sentence(str(error)))

    def _show_layer_name(self) -> None:
        """Say what the layer is that the form names."""
        index = self.form.editor("layer_num").value
        if self._info is None:
            text = "With the default network, layer 20 is the first convolution of stage 3."
        elif index < len(self._info.layers):
            text = f"Layer {self._info.layers[index]}"
        else:
            text = f"This network has the layers 0 to {len(self._info.layers) - 1}."
        if self._info is not None and self._info.crop_size:
            text += f"; trained on crops of {' × '.join(map(str, self._info.crop_size))} voxels"
        self.layer_name.setText(text)


def _crop_shape(config: Config, checkpoint: Path, info: CheckpointInfo | None) -> Shape:
    """Return the size of the crops, as the command line will choose it."""
    if "crop_size" not in config.model_fields_set:
        size = (info or read_checkpoint_info(checkpoint)).crop_size
        if size is not None:
            return (size[0], size[1], size[2])
    return config.crop_size

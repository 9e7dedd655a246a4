"""The dock widget "Extract features"."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from napari.layers import Image, Layer, Points, Shapes
from napari.utils.notifications import show_info
from napari.viewer import Viewer
from qtpy.QtWidgets import QSpinBox

from napari_synapse_cl.data.crops.recipes import EVERYTHING
from napari_synapse_cl.errors import InputError, JobError
from napari_synapse_cl.runs.events import Progress
from napari_synapse_cl.runs.folder import BY_HAND
from napari_synapse_cl.system.files import new_folder_name
from napari_synapse_cl.system.words import listing
from napari_synapse_cl.widgets.base import JobWidget, runs_folder
from napari_synapse_cl.widgets.button_rows import Buttons
from napari_synapse_cl.widgets.extract.columns import (
    REPLACE,
    PointResults,
    ask_about_columns,
    next_version,
    prefixes,
    versioned_prefix,
)
from napari_synapse_cl.widgets.extract.jobs import (
    OF_POINTS,
    Compared,
    ExtractionRequests,
    Features,
    InFiles,
    MapsGrow,
)
from napari_synapse_cl.widgets.extract.maps import MapLayers
from napari_synapse_cl.widgets.extract.network_panel import NetworkPanel
from napari_synapse_cl.widgets.extract.selection import Exporter, PointsPanel, SelectedLayer
from napari_synapse_cl.widgets.forms.crop_settings import label_layers_used
from napari_synapse_cl.widgets.forms.form import Form
from napari_synapse_cl.widgets.jobs.job import Job
from napari_synapse_cl.widgets.layers.boxes import LabelBoxes
from napari_synapse_cl.widgets.layers.features import is_component
from napari_synapse_cl.widgets.layers.voxels import voxel_size_of
from napari_synapse_cl.widgets.layouts import FittingArea
from napari_synapse_cl.widgets.look import EXPLORE, EXTRACT, RUNS, button, open_dock, sentence, tell

ESSENTIAL = ("checkpoint", "network", "pooling", "descriptors")
GROUPS = {
    "More": (
        "crop_size",
        "averaging",
        "n_components",
        "centre_jitter",
        "keep_partial",
        "output",
        "device",
        "precision",
        "cache_limit",
    )
}
PLACEHOLDERS = {
    "checkpoint": "a file, or a run",
    "crop_size": "that of the training",
    "output": "none: to the points alone",
}
EXTRACTION = ("pooling", "descriptors", "averaging", "n_components", "centre_jitter")
SHARED = (*EXTRACTION, "device", "precision", "cache_limit")
LARGEST_DEPTH = 100_000
FORM_LINES = 18


class ExtractWidget(JobWidget):
    """Describe points, or a region of a volume, by what layers of a network put out.

    It works on the layer that is selected in the viewer: points get columns of features, an image
    or a box drawn on it gets maps.
    """

    menu_name = EXTRACT
    kind = "extraction"
    ended_early = "Cancelled; nothing was added."
    chooses_points = False

    def __init__(self, viewer: Viewer) -> None:
        super().__init__(viewer)
        self.selected = SelectedLayer(viewer)
        self.rows.insertRow(0, self.label("Selected"), self.selected)
        self.form = Form(ESSENTIAL, GROUPS, PLACEHOLDERS)
        self.form.share(SHARED, self.session)
        self.panel = NetworkPanel(self.form, self.session)
        self.depth_box = QSpinBox()
        self.points_panel = PointsPanel()
        self.cancel_button = button(
            "Cancel", "End, and keep nothing unless “Keep partial” is ticked"
        )
        self.export_button = button(
            "Export …",
            "<qt>Save the selected points with their features: CSV, Parquet, NumPy or AnnData. "
            "napari opens such a file as a Points layer again.</qt>",
        )
        self.explore_button = button(
            "Explore", "<qt>Look at the selected points by their features</qt>", self.explore
        )
        self.report: Any = None
        self.label_boxes = LabelBoxes(self, self._labels_used, self.panel.changed)
        self._requests = ExtractionRequests(self.form, self.panel, self.session)
        self._exporter = Exporter(self)
        self._results: PointResults | None = None
        self._maps: MapLayers | None = None
        self._preset: Path | None = None
        self._set_up_controls()
        self._lay_out()
        self._connect()
        self._on_selection()
        self._preset_checkpoint()
        self.update_buttons()

    def start(self) -> None:
        """Extract features for the selected layer, or say why that cannot be."""
        layer, version = self.selected.layer, 1
        if isinstance(layer, Points) and not self.points_panel.on_new_layer:
            wanted = self._wanted_prefixes()
            there = [prefix for prefix in prefixes(layer) if prefix in wanted]
            if there:
                version = next_version(layer, wanted)
                new = versioned_prefix(there[0], version)
                answer = ask_about_columns(self, layer.name, there, new)
                if answer is None:
                    return
                version = 1 if answer == REPLACE else version
        self.run(partial(self._make_job, version))

    def extract_by(
        self, checkpoint: str | Path | None, image: Layer | None, points: Points | None
    ) -> None:
        """Extract by a network that was just trained; wait for Extract where a pair is doubtful."""
        self.image_box.choose(image)
        if points is not None:
            self.viewer.layers.selection.active = points
        self.form.editor("checkpoint").value = checkpoint
        if points is not None and self.job is None and self.pair_note.isHidden():
            self.panel.when_known(self.start)

    def compare(self) -> None:
        """Compare the layers of the network on the selected points."""
        self.run(self._make_comparison)

    def explore(self) -> None:
        """Open "Explore features" with the selected points, and the volume."""
        layer = self.selected.layer
        if isinstance(layer, Points):
            open_dock(self.viewer, EXPLORE).explore(layer, self.image_box.layer)

    def on_event(self, event: Any) -> None:
        """Say how far the job is, and show what it finds."""
        match event:
            case Progress(task, done, total):
                self.status.setText(f"{task.capitalize()}: {done} of {total}")
                self.show_progress(done, total, task.capitalize())
            case Features(table, None) if self._results is not None:
                self._results.show(table)
            case Features(table, dict(record)) if self._results is not None:
                self._keep(table, record, self._results)
            case InFiles(text):
                self._tell_result(text)
            case MapsGrow() if self._maps is not None:
                layers = self._maps.show(event.maps, event.corner)
                if event.whole:
                    self._maps = None
                    names = ", ".join(layer.name for layer in layers)
                    added = f"added {names}; " if names else ""
                    self._tell_result(f"{added}the maps are in {event.folder}")
            case Compared(report):
                self._show_report(report)

    def on_end(self) -> None:
        """Take away what was shown of a job that had no result."""
        if self._results is not None:
            self._results.undo()
        if self._maps is not None:
            self._maps.remove()
        self._results = self._maps = None

    def update_buttons(self) -> None:
        """Enable the buttons that do something now."""
        super().update_buttons()
        self.cancel_button.setEnabled(self.job is not None)
        self.points_panel.compare_button.setEnabled(self.job is None)

    def follow_theme(self) -> None:
        """Take the colours of the viewer's theme."""
        if self.report is not None:
            self.report.plot.follow_theme()

    def release(self) -> None:
        """End the job cleanly, and the reading of a network, when the dock is closed."""
        super().release()
        self.panel.release()

    def _labels_used(self) -> set[str]:
        """Return which labels the network's training has made use of."""
        trained = {} if self.panel.info is None else self.panel.info.crop_settings
        keep, shift = trained.get("keep", EVERYTHING), trained.get("presynaptic_shift", 0)
        return label_layers_used(keep, shift)

    def _set_up_controls(self) -> None:
        self.image_box.setToolTip("Image layer with the EM volume that the network is applied to")
        self.start_button.setText("Extract")
        self.start_button.setToolTip("Extract features for the selected points, image or box")
        self.depth_box.setRange(1, LARGEST_DEPTH)
        self.depth_box.setToolTip(
            "<qt>How deep a box is that is drawn on one slice. Rectangles on two slices make a box "
            "by themselves.</qt>"
        )

    def _lay_out(self) -> None:
        self.add_row("Depth (voxels)", self.depth_box)
        self.body.addWidget(FittingArea(self.form, FORM_LINES))
        self.body.addWidget(self.panel, stretch=1)
        self.body.addWidget(self.points_panel)
        ends = (self.start_button, self.cancel_button)
        self.body.addWidget(Buttons((*ends, self.export_button, self.explore_button)))
        self.body.addWidget(self.status)

    def _connect(self) -> None:
        self.selected.changed.connect(self._on_selection)
        self.image_box.layer_changed.connect(self._show_voxel_size)
        self.image_box.content_changed.connect(self._show_voxel_size)
        self.cancel_button.clicked.connect(partial(self.request, "stop"))
        self.panel.run_button.clicked.connect(partial(open_dock, self.viewer, RUNS))
        self.points_panel.compare_button.clicked.connect(self.compare)
        self.export_button.clicked.connect(lambda: self._exporter.export(self.selected.layer))
        self.session.checkpoint_changed.connect(self._preset_checkpoint)

    def _make_job(self, version: int) -> Job:
        layer = self.selected.require()
        image = layer if isinstance(layer, Image) else self.image_box.layer
        if isinstance(layer, Points):
            job: Job = self._requests.of_points(layer, image)
            assert image is not None
            self._results = PointResults(
                self.viewer,
                layer,
                version,
                on_new_layer=self.points_panel.on_new_layer,
                volume=image.name,
            )
            return job
        shapes = layer if isinstance(layer, Shapes) else None
        job = self._requests.of_region(image, shapes, self.depth_box.value())
        assert image is not None
        self._maps = MapLayers(self.viewer, image)
        return job

    def _make_comparison(self) -> Job:
        layer = self.selected.require()
        if not isinstance(layer, Points):
            raise InputError(
                f"network layers are compared on synapses: select a Points layer in place of "
                f"{layer.name}"
            )
        return self._requests.comparison(
            layer, self.image_box.layer, self.points_panel.label_box.column
        )

    def _wanted_prefixes(self) -> list[str]:
        pooling = self.form.editor("pooling").value
        parts = dict.fromkeys([*pooling.split("+"), pooling])
        by_layer = [f"L{index}_{part}" for index in self.panel.table.chosen for part in parts]
        return [*by_layer, BY_HAND] if self.form.editor("descriptors").value else by_layer

    def _keep(self, table: Any, record: dict[str, Any], results: PointResults) -> None:
        self._results = None
        try:
            layer, columns = results.finish(table, record, new_folder_name(runs_folder()))
        except JobError as error:
            tell(error)
            self.tell_end(sentence(str(error)))
            return
        self._color(layer, columns)
        part = "" if record.get("complete", True) else " for a part of its points"
        read = [str(one["index"]) for one in record.get("layers", ())]
        layers = f"network layer{'s' * (len(read) > 1)} {listing(read)} of" if read else ""
        by = f", by {layers} {record['checkpoint']}" if read else ""
        self._tell_result(
            f"The Points layer {layer.name} has {len(columns)} new columns{part}, from "
            f"{columns[0]} on, read in {results.volume}{by}"
        )

    def _color(self, layer: Points, columns: Sequence[str]) -> None:
        """Colour points by what was chosen, else by the first component of their features."""
        box = self.points_panel.color_box
        components = [name for name in columns if is_component(name)]
        if layer is not self.selected.layer:
            for name in components[:1]:
                box.color_other(layer, name)
        elif box.column is not None or components:
            box.color(box.column or components[0])

    def _show_report(self, report: Any) -> None:
        # Plots take longer to import than a widget should to open.
        from napari_synapse_cl.widgets.extract.report import ReportDialog

        if self.report is not None:
            self.report.close()
        self.report = ReportDialog(self.viewer, report, self)
        self.report.layers_chosen.connect(self.panel.table.choose)
        self.report.destroyed.connect(self._forget_report)
        self.report.show()
        self.panel.table.choose(report.read)
        *more, last = map(str, report.read)
        ticked = f"layers {', '.join(more)} and {last} are" if more else f"layer {last} is"
        # The report says why.
        verdict, _, _ = report.verdict[0].partition(":")
        self._tell_result(f"network {ticked} ticked now; {verdict}")

    def _forget_report(self) -> None:
        self.report = None

    def _tell_result(self, text: str) -> None:
        self.tell_end(sentence(text))
        show_info(sentence(text))

    def _on_selection(self) -> None:
        layer = self.selected.layer
        is_points = isinstance(layer, Points)
        self.rows.setRowVisible(self.image_box, not isinstance(layer, Image))
        self.rows.setRowVisible(self.depth_box, isinstance(layer, Shapes))
        for name in OF_POINTS:
            if name in self.form.names:
                self.form.editor(name).native.setEnabled(is_points)
        self.points_panel.follow(layer)
        self.pair_note.follow(layer if isinstance(layer, Points) else None)
        self._show_voxel_size()
        self.explore_button.setEnabled(isinstance(layer, Points) and bool(prefixes(layer)))

    def _show_voxel_size(self) -> None:
        image = self.selected.layer
        image = image if isinstance(image, Image) else self.image_box.layer
        is_volume = image is not None and image.ndim == 3
        self.panel.show_voxel_size(voxel_size_of(image) if is_volume else None)

    def _preset_checkpoint(self) -> None:
        """Fill in the checkpoint of this viewer's last training, unless another was chosen."""
        last = self.session.last_checkpoint
        if self.panel.checkpoint in (None, self._preset) and self.panel.checkpoint != last:
            self._preset = last
            self.form.editor("checkpoint").line_edit.value = str(last or "")

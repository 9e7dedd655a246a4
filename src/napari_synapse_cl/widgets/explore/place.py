"""Vectors of places in the volume that no point lies at: read as those that are explored were."""

from __future__ import annotations

import re
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, Signal

from napari_synapse_cl.config import Config, CropConfig
from napari_synapse_cl.data.arrays import nearest_voxel
from napari_synapse_cl.data.parts import AXES
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.runs.events import Progress
from napari_synapse_cl.widgets.explore.search import Search
from napari_synapse_cl.widgets.explore.state import Exploration
from napari_synapse_cl.widgets.layers.boxes import LayerBox
from napari_synapse_cl.widgets.layers.taking import LayerData, take_position
from napari_synapse_cl.widgets.layers.voxels import in_units_of
from napari_synapse_cl.widgets.look import button, expected, tell

if TYPE_CHECKING:
    from napari_synapse_cl.features.neighbours import Step
    from napari_synapse_cl.features.vectors import VectorTable
    from napari_synapse_cl.widgets.preview.picker import Click, Clicks

_NAME = re.compile(r"(L(\d+)_[a-z]+)(_v\d+)?")
"""Of a vector that an extraction made: layer, how it was pooled, and which of several it is."""


@dataclass(frozen=True, eq=False)
class Place:
    """A place and its vector, as the explored ones were before they were brought to one scale."""

    vectors: VectorTable
    """What it can be compared with."""
    voxel: tuple[int, ...]
    """z, y, x in the volume."""
    values: np.ndarray
    """``(1, C)`` float32."""

    def __str__(self) -> str:
        return "z, y, x = " + ", ".join(map(str, self.voxel))


def reading_of(vectors: VectorTable) -> tuple[Config, str]:
    """Return settings that read vectors as these were, and how their columns begin.

    Raises
    ------
    InputError
        If that is not known, or needs labels that a place has not.
    """
    name = vectors.names[0]
    record, found = vectors.record_of(name), _NAME.fullmatch(name)
    settings, checkpoint = record.get("settings"), record.get("checkpoint")
    if found is None or len(vectors.names) > 1 or not isinstance(settings, dict) or not checkpoint:
        raise InputError(
            f"by which network {name} was read is not known here, so no other place can be read "
            "like it: extract the features with this program"
        )
    if settings.get("keep", "everything") != "everything" or settings.get("presynaptic_shift"):
        raise InputError(
            f"the crops of {name} were masked or moved by label volumes, which a place that is "
            "clicked has none of: select a point instead"
        )
    known = {n: settings[n] for n in CropConfig.model_fields if settings.get(n) is not None}
    for one in ("pooling", "averaging"):
        known |= {one: settings[one]} if one in settings else {}
    known |= {"precision": record["precision"]} if record.get("precision") else {}
    more = {"network": record.get("network", "trained"), "layer_num": [int(found[2])]}
    only = {"extract_only": True, "figures": False, "n_components": 0, "label_column": ""}
    # A crop that reaches outside is read all the same: it was chosen by a person.
    if known.get("borders") == "exclude":
        known["borders"] = "reflect"
    return Config.from_values({"checkpoint": checkpoint, **known, **more, **only}), found[1]


def read_place(
    vectors: VectorTable, data: LayerData, config: Config, prefix: str
) -> Generator[Step, None, Place]:
    """Read the vector of the only position of a volume in a child process; for a worker.

    Raises
    ------
    InputError
        If the network is another by now, or the crop is of no use.
    JobError
        If the child could not go on.
    """
    from napari_synapse_cl.widgets.extract.jobs import Features, SynapsesJob, temporary_folder
    from napari_synapse_cl.widgets.jobs.inputs import HowToCut, RunInputs

    folder, found = temporary_folder(), None
    inputs = RunInputs([data], config, folder, lambda: HowToCut(config, with_context=False))
    yield "reading the place", 0, 1, "crop"
    with closing(SynapsesJob(inputs, folder).events()) as events:  # type: ignore[type-var]
        for event in events:
            if isinstance(event, Progress):
                yield event.task, event.done, event.total, event.unit
            elif isinstance(event, Features) and event.record is not None:
                found = event
    assert found is not None
    assert found.record is not None
    before = vectors.record_of(vectors.names[0])
    for name in ("sha256", "seed"):
        if found.record.get(name) != before.get(name):
            raise InputError(
                f"{Path(str(config.checkpoint)).name} is another network than the one by which "
                f"{vectors.names[0]} was read: extract the features again"
            )
    columns = [name for name in found.table if re.fullmatch(rf"{prefix}_\d+", str(name))]
    values = found.table[columns].to_numpy(np.float32)
    voxel = tuple(int(n) for n in data.table[list(AXES)].iloc[0])
    if values.shape[1] != vectors.values.shape[1] or not np.isfinite(values).all():
        raise InputError(
            f"no vector like the others was read at z, y, x = {', '.join(map(str, voxel))}"
        )
    return Place(vectors, voxel, values)


class PlaceReader(QObject):
    """Takes the voxel under the next click in the viewer, and reads its vector.

    Parameters
    ----------
    image_box
        The volume.

    Attributes
    ----------
    button
        Waits for a click; pressed again, waits no longer, or ends the reading.
    """

    read = Signal(object)
    """Emitted with the :class:`Place`."""
    told = Signal(str)

    def __init__(self, viewer: Any, state: Exploration, image_box: LayerBox) -> None:
        super().__init__()
        self._viewer, self._state, self._image_box = viewer, state, image_box
        self._clicks: Clicks | None = None
        self.button = button(
            "From a place",
            "<qt>Click a place in the viewer, where no point needs to be, and see the crops most "
            "similar to it. Its vector is read by the network of the others, which takes some "
            "seconds</qt>",
            self._on_button,
        )
        self.button.setCheckable(True)
        self._search = Search(read_place)
        self._search.done.connect(self.read)
        self._search.failed.connect(lambda error: tell(expected(error)))
        self._search.told.connect(self.told)
        self._search.changed.connect(self._update)
        # With napari it is closed without a word.
        self.destroyed.connect(self._search.stop)
        state.rows_changed.connect(self._on_rows)
        self._update()

    def read_at(self, position: Any) -> None:
        """Read the vector at a position, z, y, x in voxels of the volume."""
        vectors = self._state.vectors
        if vectors is None:
            return
        try:
            config, prefix = reading_of(vectors)
            data = take_position(self._image_box.layer, position)
        except InputError as error:
            self.told.emit(str(error))
            tell(error)
            return
        self._search.start(vectors, data, config, prefix)

    def release(self) -> None:
        """Wait for no click, and read nothing any more."""
        self._wait(False)
        self._search.stop()

    def _on_button(self) -> None:
        is_busy = self._clicks is not None or self._search.is_running
        self._search.stop()
        try:
            if not is_busy and self._state.vectors is not None:
                # Before anyone clicks in vain.
                reading_of(self._state.vectors)
            self._wait(not is_busy)
        except InputError as error:
            self.told.emit(str(error))
            tell(error)
            self._wait(False)
        if self._clicks is not None:
            self.told.emit("click a place in the viewer")

    def _wait(self, waiting: bool) -> None:
        from napari_synapse_cl.widgets.preview.picker import Clicks

        if self._clicks is not None:
            self._clicks.release()
            self._clicks = None
        if waiting:
            self._clicks = Clicks(self._viewer, self._on_click)
        self._update()

    def _on_click(self, click: Click) -> None:
        self._wait(False)
        image = self._image_box.layer
        if image is not None and image.ndim == 3 and len(click.dims_displayed) == 3:
            self.told.emit("show slices (2D) to click a place")
            return
        position = None
        if image is not None and image.ndim == 3:
            world = in_units_of(image, click.position, self._viewer.dims.units)
            position = nearest_voxel(image.world_to_data(world))
        self.read_at(position)

    def _on_rows(self) -> None:
        self._wait(False)
        self._search.stop()

    def _update(self) -> None:
        self.button.setChecked(self._clicks is not None or self._search.is_running)
        self.button.setEnabled(self._state.n > 0)

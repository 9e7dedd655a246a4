"""The dock widget that opens volumes, the positions of their synapses, and labels."""

import html
import time
from functools import partial
from pathlib import Path
from typing import Any

from napari.layers import Layer
from napari.viewer import Viewer
from qtpy.QtWidgets import QMenu

from napari_synapse_cl.errors import InputError, JobError
from napari_synapse_cl.runs.events import Level
from napari_synapse_cl.system.words import size
from napari_synapse_cl.widgets.base import DockWidget
from napari_synapse_cl.widgets.button_rows import Buttons
from napari_synapse_cl.widgets.jobs.job import Job, JobWorker, LatestOnly
from napari_synapse_cl.widgets.layers.boxes import VolumePair
from napari_synapse_cl.widgets.layouts import tab_in_order
from napari_synapse_cl.widgets.look import (
    MARK,
    MARK_COLOR,
    OPEN,
    TRAIN,
    button,
    open_dock,
    paragraph,
    sentence,
    tell,
    telling,
)
from napari_synapse_cl.widgets.open_data.fields import Fields, Offer, name_of
from napari_synapse_cl.widgets.open_data.jobs import Opened, OpenJob
from napari_synapse_cl.widgets.open_data.layers import (
    in_words,
    layers_of,
    place_anew,
    show_place,
    with_size,
)
from napari_synapse_cl.widgets.open_data.session_file import SessionJob, write_session
from napari_synapse_cl.widgets.open_data.sessions import (
    Restoring,
    Use,
    ask_file,
    gather_session,
    last_session,
    recent_uses,
    remember_session,
    remember_use,
)

ASK_SIZE = "Fill it in above, along z, y, x in nm; until then lengths are in voxels."


class OpenWidget(DockWidget):
    """Opens data of any supported format as layers.

    Attributes
    ----------
    fields
        What is to be opened.
    volume, synapses, labels, segmentation, form, note
        Parts of these.
    open_button, cancel_button, recent_button, size_offer, train_offer, status
        Its other parts.
    """

    menu_name = OPEN

    def __init__(self, viewer: Viewer) -> None:
        super().__init__(viewer)
        self._worker: JobWorker | None = None
        self._use: Use = {}
        self._unsized: list[tuple[Opened, dict[str, Any]]] = []
        self.fields = Fields()
        places = self.fields.places
        self.volume, self.synapses = places["image"], places["synapses"]
        self.labels, self.segmentation = places["labels"], places["segmentation"]
        self.form, self.note = self.fields.form, self.fields.note
        self.open_button = button("Open", clicked=self.open)
        self.cancel_button = button("Cancel", clicked=self.cancel)
        self.recent_button = button("Recent", "What was opened lately, to fill it in again")
        self.recent_button.setMenu(QMenu(self.recent_button, toolTipsVisible=True))
        self.recent_button.menu().aboutToShow.connect(self._list_recent)
        self.session_button = button("Session", "Layers, pairs, network and docks as one file")
        self.session_button.setMenu(QMenu(self.session_button))
        self.session_button.menu().addAction("Save session …", self.ask_save)
        self.session_button.menu().addAction("Open session …", self.ask_open)
        self.session_offer = Offer("Open", self._open_last_session)
        self._writer = LatestOnly(write_session)
        self._restoring: Restoring | None = None
        self.size_offer = Offer("Set", self.set_voxel_size)
        self.train_offer = Offer("Train", self._open_training)
        self._ready: VolumePair | None = None
        self.status = paragraph(selectable=True)
        self._lay_out()
        self.fields.entered.connect(self.open)
        self.synapses.told.connect(self.status.setText)
        self._writer.done.connect(self._on_saved)
        self._writer.failed.connect(self._on_error)
        viewer.layers.events.inserted.connect(self._withdraw_session)
        viewer.layers.events.removed.connect(self._on_removed)
        self._offer_session()
        self._update()

    @property
    def is_busy(self) -> bool:
        """Whether something is being opened."""
        return self._worker is not None

    def open(self) -> None:
        """Open what the fields name, or say why that cannot be."""
        if self.is_busy:
            return
        try:
            job = OpenJob(self.fields.what)
        except InputError as error:
            self._on_error(error)
            return
        self._use = self.fields.use
        self._unsized = []
        self.size_offer.make("")
        self._offer_training()
        self._run(job)

    def open_session(self, file: Path) -> None:
        """Open a session beside what is there."""
        if not self.is_busy:
            self._restoring = Restoring(self.viewer)
            self._run(SessionJob(file))
            remember_session(file)

    def save_session(self, file: Path) -> None:
        """Save a session to a file."""
        self._writer.ask(file, gather_session(self.viewer, self.session))

    def ask_save(self) -> None:
        """Ask where to save a session, and save it there."""
        file = ask_file(self, "Save session", last_session(), saving=True)
        if file is not None:
            self.save_session(file)

    def ask_open(self) -> None:
        """Ask for a session, and open it."""
        file = ask_file(self, "Open session", last_session(), saving=False)
        if file is not None:
            self.open_session(file)

    def cancel(self) -> None:
        """Wait no longer for what is being opened; nothing of it is added."""
        worker = self._worker
        if worker is None:
            return
        # A server may answer late, and it may be to another question by then.
        worker.yielded.disconnect(self._on_event)
        worker.errored.disconnect(self._on_error)
        worker.finished.disconnect(self._on_finished)
        worker.quit()
        self._worker = self._restoring = None
        self.status.setText("Cancelled: nothing was opened.")
        self._update()

    def release(self) -> None:
        """Wait no longer, with the dock closed."""
        self.cancel()

    def _run(self, job: Job) -> None:
        worker = JobWorker(job)
        worker.yielded.connect(self._on_event)
        worker.errored.connect(self._on_error)
        worker.finished.connect(self._on_finished)
        self.destroyed.connect(job.end_soon)
        self._worker = worker
        self.status.setText("Opening …")
        self._update()
        worker.start()

    def _lay_out(self) -> None:
        body = self.body
        body.addWidget(self.session_offer)
        body.addWidget(self.fields)
        buttons = (self.open_button, self.cancel_button, self.recent_button, self.session_button)
        body.addWidget(Buttons(buttons))
        body.addWidget(self.size_offer)
        body.addWidget(self.status)
        body.addWidget(self.train_offer)
        body.addStretch()
        tab_in_order(body.parentWidget())

    def set_voxel_size(self) -> None:
        """Give what was opened without a voxel size the one that is filled in."""
        with telling():
            voxel_size = self.form.config().voxel_size
            if voxel_size is None:
                self.form.editor("voxel_size").native.setFocus()
                raise InputError("fill in the voxel size along z, y, x in nm first, as in 40 4 4")
            for opened, layers in self._unsized:
                place_anew(layers, with_size(opened, voxel_size))
            first, layers = self._unsized[0]
            self._show(first, layers)
            self._unsized = []
            self.size_offer.make("")
            self.status.setText(f"Voxels are {size(voxel_size)} nm now, as given.")
            self._use = {**self._use, "voxel_size": self.form.editor("voxel_size").value}
            remember_use(self._use)

    def _list_recent(self) -> None:
        menu = self.recent_button.menu()
        menu.clear()
        for use in recent_uses():
            places = [use[name] for name in self.fields.places if name in use]
            fill_in = partial(setattr, self.fields, "use", use)
            action = menu.addAction(" · ".join(map(name_of, places)), fill_in)
            action.setToolTip("\n".join(places))
        if menu.isEmpty():
            menu.addAction("Nothing was opened yet").setEnabled(False)

    def _on_event(self, event: Any) -> None:
        if isinstance(event, str):
            self.status.setText(event)
        elif isinstance(event, list):
            self._on_opened(event)
        elif self._restoring is not None and self._restoring.take(event):
            self._tell(self._restoring.said)
            self._restoring = None

    def _on_opened(self, event: list[Opened]) -> None:
        added: list[dict[str, Any]] = []
        before = list(self.viewer.layers)
        try:
            for opened in event:
                added.append({})
                self._add(opened, added[-1], visible=len(added) == 1)
        except (InputError, JobError) as error:
            # One that cannot be drawn is in the list too.
            for layer in [layer for layer in self.viewer.layers if layer not in before]:
                self.viewer.layers.remove(layer)
            self._on_error(error)
            return
        self._show(event[0], added[0])
        remember_use(self._use)
        unsized = zip(event, added, strict=True)
        self._unsized = [(o, layers) for o, layers in unsized if o.part.voxel_size is None]
        if self._unsized:
            name = self._unsized[0][0].part.name
            self.size_offer.make(f"{MARK}The voxel size of {name} is not known. {ASK_SIZE}")
            self.form.editor("voxel_size").native.setFocus()
        said = [told for opened in event for told in in_words(opened)]
        if len(event) > 1:
            for layers in added:
                self.session.volumes.add(VolumePair(layers["image"], layers["synapses"]))
            said.append((f"All {len(event)} volumes are listed for a training", "info"))
        self._tell(said)
        if "synapses" in added[0]:
            self._offer_training(VolumePair(added[0]["image"], added[0]["synapses"]))

    def _open_training(self) -> None:
        """Open "Train contrastive" with what was opened last."""
        assert self._ready is not None
        widget = open_dock(self.viewer, TRAIN)
        widget.image_box.choose(self._ready.image)
        widget.points_box.choose(self._ready.points)

    def _offer_training(self, ready: VolumePair | None = None) -> None:
        self._ready = ready
        next_step = "Next, a network can be trained on these synapses."
        self.train_offer.make("" if ready is None else next_step)

    def _on_removed(self, event: Any) -> None:
        if self._ready is not None and event.value in self._ready:
            self._offer_training()

    def _show(self, opened: Opened, layers: dict[str, Any]) -> None:
        closely = opened.placed is not None
        show_place(self.viewer, layers["image"], opened.sight, closely=closely)

    def _add(self, opened: Opened, layers: dict[str, Any], *, visible: bool) -> None:
        """Add the layers of a volume to the viewer, and to a dictionary by what they are."""
        for name, (data, keywords, kind) in layers_of(opened).items():
            layer = Layer.create(data, {**keywords, "visible": visible}, kind)
            layers[name] = self.viewer.add_layer(layer)
            if kind == "labels":
                layer.editable = False
                self.session.volumes.choose_labels(layers["image"], name, layer)

    def _tell(self, said: list[tuple[str, Level]]) -> None:
        lines = []
        for text, level in said:
            # Names that stand first keep their small letters.
            line = html.escape(text[0] + sentence(text)[1:])
            is_warning = level == "warning"
            lines.append(
                f"<span style='color:{MARK_COLOR}'>{MARK}{line}</span>" if is_warning else line
            )
        self.status.setText("<br>".join(lines))

    def _on_error(self, error: Exception) -> None:
        if not isinstance(error, InputError | JobError):
            self.status.setText("What was to be opened ended with an unexpected error.")
            # napari shows it with its traceback.
            raise error
        text = sentence(str(error))
        tell(type(error)(text))
        self._tell([(text, "warning")])

    def _on_saved(self, saved: tuple[Path, list[str]]) -> None:
        file, left_out = saved
        remember_session(file)
        said: list[tuple[str, Level]] = [(f"The session is saved in {file}", "info")]
        if left_out:
            said.append((f"Not kept: {'; '.join(left_out)}", "warning"))
        self._tell(said)

    def _offer_session(self) -> None:
        last = None if self.viewer.layers else last_session()
        if last is not None:
            when = time.strftime("%d %b, %H:%M", time.localtime(last.stat().st_mtime))
            self.session_offer.make(f"Last session: {last.stem}, {when}")

    def _open_last_session(self) -> None:
        if (last := last_session()) is not None:
            self.open_session(last)

    def _withdraw_session(self, event: Any = None) -> None:
        self.session_offer.make("")

    def _on_finished(self) -> None:
        self._worker = None
        self._update()

    def _update(self) -> None:
        self.open_button.setEnabled(not self.is_busy)
        self.cancel_button.setEnabled(self.is_busy)

"""What the three widgets share: choosing layers, telling errors, and minding a job."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from napari.layers import Image, Points
from napari.utils import progress
from napari.utils.notifications import show_info, show_warning
from qtpy.QtCore import QCoreApplication, QEvent, QSize, QTimer
from qtpy.QtWidgets import QLabel, QLayout, QSizePolicy, QVBoxLayout, QWidget

from napari_synapse_cl.errors import InputError, JobError
from napari_synapse_cl.runs.events import Message
from napari_synapse_cl.system.environment import home
from napari_synapse_cl.system.files import new_folder_name
from napari_synapse_cl.widgets.jobs.job import Job, JobWorker
from napari_synapse_cl.widgets.layers.boxes import LayerBox, PairNote
from napari_synapse_cl.widgets.layers.taking import LayerData, take
from napari_synapse_cl.widgets.layouts import FittingArea, Rows, bare
from napari_synapse_cl.widgets.look import (
    CALM,
    LABEL_WIDTH,
    NORMAL,
    button,
    dock_of,
    main_window_of,
    paragraph,
    sentence,
    set_spinner_speed,
    set_title,
    style_of_fields,
    tell,
    telling,
    turn_spinner,
)
from napari_synapse_cl.widgets.session import session_of

RUNS = "synapse_cl_runs"
"""Folder in a person's home for the runs that were given none."""
PREFERRED_WIDTH = 380
"""Of a dock, where there is room for it, in pixels."""
MARGIN = 6


class Yielding(QVBoxLayout):
    """Parts that yield to the least height they can have, before what is around them scrolls."""

    def hasHeightForWidth(self) -> bool:  # noqa: N802 - Qt's name
        """Say no: a scroll area gives texts that wrap, and all beside them, what they like best."""
        return False


class DockWidget(QWidget):
    """A widget that is docked in a viewer, and scrolls as a whole where room is scarce.

    Attributes
    ----------
    body
        Layout of its parts.
    """

    menu_name: str
    """What it is called in the menu, and the title of its tab."""

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self.viewer = viewer
        self.session = session_of(viewer)
        self._released = False
        viewer.events.theme.connect(self._on_theme)
        self.setStyleSheet(style_of_fields(viewer))
        self._page = QWidget()
        self.body = Yielding(self._page)
        self.body.setContentsMargins(MARGIN, MARGIN, MARGIN, MARGIN)
        self._area = FittingArea(self._page)
        self._area.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Expanding)
        bare(QVBoxLayout(self)).addWidget(self._area)
        self._settling = QTimer(self, singleShot=True, interval=0, timeout=self._settle)

    def release(self) -> None:
        """End what runs, when the dock is closed."""
        raise NotImplementedError

    @property
    def is_released(self) -> bool:
        """Whether the dock that it was in is closed."""
        return self._released

    def hold(self) -> None:
        """Begin again what :meth:`release` has ended, when the widget is docked once more."""

    def follow_theme(self) -> None:
        """Take the colours of the viewer's theme; for subclasses that draw."""

    def _on_theme(self, event: Any = None) -> None:
        self.setStyleSheet(style_of_fields(self.viewer))
        self.follow_theme()

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Leave the room to the viewer's canvas, but clip no part."""
        return QSize(max(PREFERRED_WIDTH, self.minimumWidth()), self._page.sizeHint().height())

    def event(self, event: QEvent) -> bool:
        """Notice that it is docked, and that its dock is closed: then it has no parent."""
        handled = super().event(event)
        if event.type() == QEvent.Type.LayoutRequest:
            # A dock keeps the least width that its widget has had, unless that is told so.
            self.setMinimumWidth(self._area.minimumSizeHint().width())
        if event.type() == QEvent.Type.ParentChange:
            closed = self.parent() is None
            if closed and not self._released:
                self.release()
            elif not closed:
                # napari places the dock after it has put the widget into it.
                self._settling.start()
                if self._released:
                    # What it begins again is nothing that a closed dock does.
                    self._released = False
                    self.hold()
            self._released = closed
        return handled

    def _settle(self) -> None:
        """Join the other docks of ours as a tab: one above the other they outgrow the screen."""
        dock, window = dock_of(self), main_window_of(self)
        if dock is None or window is None:
            return
        set_title(dock, self.menu_name)
        others = [dock_of(widget) for widget in window.findChildren(DockWidget)]
        fixed = [other for other in others if other not in (None, dock) and not other.isFloating()]
        if fixed and dock not in window.tabifiedDockWidgets(fixed[-1]):
            window.tabifyDockWidget(fixed[-1], dock)
        dock.raise_()


class LayersWidget(DockWidget):
    """A dock widget that works on an image and a points layer, with fields in :attr:`rows`."""

    without_points: str = ""
    """What to call the choice of no points layer; empty where one is needed."""
    chooses_points: bool = True
    """Whether a points layer is chosen in the widget, and not by selecting it in the viewer."""

    def __init__(self, viewer: Any) -> None:
        super().__init__(viewer)
        self.image_box = LayerBox(viewer, Image)
        self.image_box.setToolTip("Image layer with the EM volume")
        self.pair_note = PairNote(self.image_box)
        rows = Rows()
        self.rows = rows.form
        self.body.addWidget(rows)
        self.add_row("Volume", self.image_box)
        if self.chooses_points:
            self.points_box = LayerBox(viewer, Points, self.without_points)
            self.points_box.setToolTip("Points layer with one point for each synapse")
            self.add_row("Synapses", self.points_box)
            self.points_box.layer_changed.connect(
                lambda: self.pair_note.follow(self.points_box.layer)
            )
            self.points_box.content_changed.connect(self.pair_note.check)
        self.rows.addRow(self.pair_note)
        # With napari the widget is closed without a word.
        self.destroyed.connect(self.session.settings.keep)
        if self.chooses_points:
            self.pair_note.follow(self.points_box.layer)

    def add_row(self, name: str, field: QWidget | QLayout) -> None:
        """Add a labelled field below the choice of layers."""
        if isinstance(field, QWidget):
            field.setAccessibleName(name)
        self.rows.addRow(self.label(name), field)

    def label(self, name: str) -> QLabel:
        """Return a label as wide as those of forms, so that fields stand in line."""
        label = QLabel(name)
        label.setMinimumWidth(LABEL_WIDTH)
        return label

    def take_layers(self) -> LayerData:
        """Return what a job needs of the chosen layers.

        Raises
        ------
        InputError
            If they cannot be used.
        """
        return take(self.image_box.layer, self.points_box.layer)

    def release(self) -> None:
        """Keep the settings, when the dock is closed."""
        self.session.settings.keep()


class JobWidget(LayersWidget):
    """A dock widget that runs jobs, one at a time.

    Subclasses make the job (:meth:`make_job`) and look at its events (:meth:`on_event`,
    :meth:`on_end`). How a job is run is the matter of :mod:`~napari_synapse_cl.widgets.jobs.job`.
    """

    kind: str
    """What to call the job in messages."""
    ended_early: str
    """What to say of a job that was ended before it had a result."""

    def __init__(self, viewer: Any) -> None:
        super().__init__(viewer)
        self.job: Job | None = None
        self._progress: Any = None
        self._told_end = False
        self.start_button = button("Start", clicked=self.start)
        self.status = paragraph(selectable=True)

    def make_job(self) -> Job:
        """Return the job that the form describes.

        Raises
        ------
        InputError
            If it cannot be run.
        """
        raise NotImplementedError

    def on_event(self, event: Any) -> None:
        """Show what the job tells."""

    def on_end(self) -> None:
        """Forget the job that has ended."""

    def tell_end(self, text: str) -> None:
        """Say how the job has ended."""
        self._told_end = True
        self.status.setText(text)

    def update_buttons(self) -> None:
        """Enable the buttons that do something now."""
        self.start_button.setEnabled(self.job is None)

    def start(self) -> None:
        """Start the job that the form describes, or say why that cannot be."""
        self.run(self.make_job)

    def run(self, make_job: Callable[[], Job]) -> None:
        """Run a job, or say why that cannot be.

        Parameters
        ----------
        make_job
            Returns the job; an InputError that it raises is told.
        """
        try:
            if self.kind in self.session.running:
                raise InputError(
                    f"one {self.kind} runs already, and a window runs one at a time; wait for its "
                    "end, or stop it"
                )
            job = make_job()
        except InputError as error:
            tell(error)
            if self.job is None:
                self.status.setText(sentence(str(error)))
            return
        self.job = job
        self._told_end = False
        worker = JobWorker(job)
        # It hears of the end before the button says that another job may begin.
        self.session.begin(self.kind, worker.finished)
        worker.yielded.connect(self._on_event)
        worker.errored.connect(self._on_error)
        worker.finished.connect(self._on_finished)
        self._progress = progress(total=0, desc=self.kind.capitalize())
        # Unlike the widget, they hear of the end even if the widget is closed by then.
        worker.finished.connect(self._progress.close)
        self.destroyed.connect(job.end_soon)
        set_spinner_speed(self, CALM)
        self.status.setText("Starting …")
        self.update_buttons()
        worker.start()

    def request(self, command: Any) -> None:
        """Pass a command to the job, if there is one."""
        if self.job is not None:
            with telling():
                self.job.request(command)

    def show_progress(self, done: int, total: int, task: str = "") -> None:
        """Show in napari's activity dock how far the job has come."""
        bar = self._progress
        if bar is None:
            return
        turn_spinner(self)
        # Texts take their places before the window is composed, or it is composed once more.
        QCoreApplication.sendPostedEvents(None, QEvent.Type.LayoutRequest.value)
        if bar.total != total:
            bar.total = total
        # napari composes the window at once and handles other events, also the end of the job.
        if task and task != bar.desc.removesuffix(": "):
            bar.set_description(task)
        else:
            bar.update(done - bar.n)

    def release(self) -> None:
        """End the job cleanly, when the dock is closed."""
        super().release()
        if self.job is not None:
            self.job.end_soon()

    def _on_event(self, event: Any) -> None:
        match event:
            case Message(text, "warning"):
                show_warning(sentence(text))
            case Message(text, "info"):
                show_info(sentence(text))
        self.on_event(event)

    def _on_error(self, error: Exception) -> None:
        if not isinstance(error, InputError | JobError):
            self.tell_end(f"The {self.kind} ended with an unexpected error.")
            # napari shows it with its traceback.
            raise error
        tell(error)
        self.tell_end(sentence(str(error)))

    def _on_finished(self) -> None:
        self.job = self._progress = None
        set_spinner_speed(self, NORMAL)
        if not self._told_end:
            self.status.setText(self.ended_early)
        self.on_end()
        self.update_buttons()


def run_folder(output: Path | None) -> Path:
    """Return the folder for a run: the one that was chosen, else a new one.

    Raises
    ------
    InputError
        If there is no place for a new one.
    """
    if output is None and home() is None:
        raise InputError("there is no home directory for the results: choose an output folder")
    return output or new_folder_name(runs_folder())


def runs_folder() -> Path:
    """Return where the runs are that were given no folder: in the home, if there is one."""
    return (home() or Path(tempfile.gettempdir())) / RUNS

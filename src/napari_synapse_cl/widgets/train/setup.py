"""How a training is set up: the volumes that it works on, and the page of its settings."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

from napari.layers import Layer
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QHBoxLayout, QLineEdit, QSizePolicy, QToolButton, QVBoxLayout, QWidget
from superqt import QElidingLabel

from napari_synapse_cl.config import Config, recipe_values
from napari_synapse_cl.errors import InputError, SettingError
from napari_synapse_cl.widgets.forms.form import Form
from napari_synapse_cl.widgets.layers.boxes import ChosenVolumes, VolumePair, content_emitters
from napari_synapse_cl.widgets.layers.taking import LayerData
from napari_synapse_cl.widgets.layouts import bare, scrolling
from napari_synapse_cl.widgets.look import button
from napari_synapse_cl.widgets.session import Session
from napari_synapse_cl.widgets.train.settings import (
    ESSENTIAL,
    GROUPS,
    OF_ONE_RUN,
    PLACEHOLDERS,
    Presets,
    SettingsMenu,
)
from napari_synapse_cl.widgets.train.summary import Summary


class Advanced(QWidget):
    """All settings, folded away, with a field to search them.

    Parameters
    ----------
    form
        What holds them.

    Attributes
    ----------
    toggle
        Shows and hides them.
    search
        What is typed here filters them.
    """

    def __init__(self, form: Form) -> None:
        super().__init__()
        self._form = form
        self.toggle = button("", "Show all settings, or hide them")
        self.toggle.setCheckable(True)
        self.toggle.setStyleSheet("text-align: left")
        self.search = QLineEdit(placeholderText="Search the settings", clearButtonEnabled=True)
        self.search.setAccessibleName("Search the settings")
        self._page = QWidget()
        page = bare(QVBoxLayout(self._page), 4)
        page.addWidget(self.search)
        page.addWidget(scrolling(form))
        layout = bare(QVBoxLayout(self), 4)
        layout.addWidget(self.toggle)
        layout.addWidget(self._page, stretch=1)
        self.toggle.toggled.connect(self._on_toggle)
        self.search.textChanged.connect(form.search)
        self._on_toggle(is_open=False)

    def reveal(self, name: str) -> None:
        """Bring a setting into sight and the cursor into it."""
        self.search.clear()
        self.toggle.setChecked(True)
        self._form.reveal(name)

    def _on_toggle(self, is_open: bool) -> None:
        self.toggle.setText(f"{'▾' if is_open else '▸'} Advanced")
        self._page.setVisible(is_open)
        vertical = QSizePolicy.Policy.Expanding if is_open else QSizePolicy.Policy.Maximum
        self.setSizePolicy(QSizePolicy.Policy.Preferred, vertical)


class SettingsPage(QWidget):
    """Says what a training will be, and holds its settings.

    Parameters
    ----------
    session
        That of the viewer, which shares the settings.

    Attributes
    ----------
    form
        All settings.
    presets, menu
        What they are taken from; placed by others.
    advanced, summary
        The parts of the page.
    """

    asked_for = Signal()
    """Emitted when a setting of it is to be seen."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._settings = session.settings
        self.form = Form(ESSENTIAL, GROUPS, PLACEHOLDERS)
        shared = [name for name in self.form.names if name not in OF_ONE_RUN]
        self.form.share(shared, session)
        self.menu = SettingsMenu(session.settings, shared, self.form.config)
        self.presets = Presets(session.settings)
        self.advanced = Advanced(self.form)
        self.summary = Summary()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 4, 0, 0)
        layout.addWidget(scrolling(self.summary), stretch=2)
        layout.addWidget(self.advanced, stretch=3)
        self.form.editor("num_epochs").changed.connect(self._count_epochs)
        self.presets.chosen.connect(self._compare)
        self.summary.asked_for.connect(self.reveal)
        self.summary.timed.connect(self.presets.show_times)
        self._compare()

    def config(self) -> Config:
        """Return the settings of a training.

        Raises
        ------
        InputError
            If one cannot be used, which is in sight then.
        """
        try:
            return self.form.config(train_only=True)
        except SettingError as error:
            self.reveal(next(iter(error.names), ""))
            raise

    def reveal(self, name: str) -> None:
        """Bring a setting into sight and the cursor into it, if it is in the form."""
        if name in self.form.names:
            self.asked_for.emit()
            self.advanced.reveal(name)

    def show_plan(self, several: Sequence[LayerData], *, measure: bool) -> None:
        """Say what a training on some volumes will be, or why there can be none.

        Parameters
        ----------
        measure
            Whether the machine may be measured.
        """
        try:
            config = self.form.config()
        except InputError as error:
            self.summary.show_problem(error)
            return
        self.summary.show_plan(several, config, self.presets.configs(config), measure=measure)

    def _count_epochs(self) -> None:
        """Let the epochs count that were filled in by hand, in place of the steps."""
        if not self._settings.is_loading:
            self.form.editor("num_steps").value = 0

    def _compare(self) -> None:
        self.form.compare_with(recipe_values(self.presets.name), self.presets.title)


class VolumeList(QWidget):
    """A row for each volume that is listed, and a button that lists the chosen one.

    Parameters
    ----------
    volumes
        The list; it outlives the widget.
    chosen
        Returns the chosen volume, None while a layer is missing.

    Attributes
    ----------
    add_button
        Lists the chosen volume.
    """

    changed = Signal()
    """Emitted when another set of volumes is listed, or the content of their layers changes."""

    def __init__(self, volumes: ChosenVolumes, chosen: Callable[[], VolumePair | None]) -> None:
        super().__init__()
        self._volumes = volumes
        self._chosen = chosen
        self._followed: list[Layer] = []
        self._rows: list[tuple[VolumePair, QWidget, QElidingLabel]] = []
        self.add_button = button(
            "Add volume",
            "<qt>Train on several volumes at once: this notes the chosen volume and its synapses; "
            "then choose the next above. The training uses the chosen one and those noted.</qt>",
            self._add,
        )
        self._layout = bare(QVBoxLayout(self), 0)
        self._layout.addWidget(self.add_button, alignment=Qt.AlignmentFlag.AlignLeft)
        volumes.changed.connect(self._on_change)
        self._show_rows()

    @property
    def texts(self) -> list[str]:
        """What the rows say."""
        return [label.text() for _, _, label in self._rows]

    @property
    def remove_buttons(self) -> list[QToolButton]:
        """One for each row."""
        return [row.findChild(QToolButton) for _, row, _ in self._rows]

    def pairs(self) -> list[VolumePair]:
        """Return the volumes to train on: those listed, and the chosen one if it is not."""
        chosen = self._chosen()
        listed = self._volumes.listed
        return [*listed, chosen] if chosen is not None and chosen not in listed else list(listed)

    def refresh(self) -> None:
        """Take notice that another volume is chosen."""
        chosen = self._chosen()
        self.add_button.setEnabled(chosen is not None and chosen not in self._volumes.listed)

    def _add(self) -> None:
        chosen = self._chosen()
        if chosen is not None:
            self._volumes.add(chosen)

    def _on_change(self) -> None:
        self._show_rows()
        self.changed.emit()

    def _show_rows(self) -> None:
        for _, row, _ in self._rows:
            self._layout.removeWidget(row)
            row.hide()
            # Its own button may have been clicked just now.
            row.deleteLater()
        self._rows = [self._make_row(pair) for pair in self._volumes.listed]
        for number, (_, row, _) in enumerate(self._rows):
            self._layout.insertWidget(number, row)
        # What comes late would be reached last by Tab.
        before = self.add_button.previousInFocusChain()
        while before is not self.add_button and not before.focusPolicy() & Qt.FocusPolicy.TabFocus:
            before = before.previousInFocusChain()
        for one, following in pairwise([before, *self.remove_buttons]):
            self.setTabOrder(one, following)
        self._follow([layer for pair in self._volumes.listed for layer in pair])
        self._name_rows()
        self.refresh()

    def _make_row(self, pair: VolumePair) -> tuple[VolumePair, QWidget, QElidingLabel]:
        row, label, cross = QWidget(), QElidingLabel(), QToolButton()
        label.setElideMode(Qt.TextElideMode.ElideMiddle)
        label.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        cross.setText("×")
        cross.setAutoRaise(True)
        cross.setToolTip("Train on this volume no longer")
        cross.clicked.connect(partial(self._volumes.remove, pair))
        layout = bare(QHBoxLayout(row))
        layout.addWidget(label, stretch=1)
        layout.addWidget(cross)
        return pair, row, label

    def _name_rows(self, event: Any = None) -> None:
        for pair, _, label in self._rows:
            text = f"{pair.image.name} · {pair.points.name}"
            label.setText(text)
            label.setToolTip(f"{text}: trained on too")

    def _follow(self, layers: list[Layer]) -> None:
        for layer in self._followed:
            layer.events.name.disconnect(self._name_rows)
            for emitter in content_emitters(layer):
                emitter.disconnect(self._tell_content)
        self._followed = layers
        for layer in layers:
            layer.events.name.connect(self._name_rows)
            for emitter in content_emitters(layer):
                emitter.connect(self._tell_content)

    def _tell_content(self, event: Any = None) -> None:
        self.changed.emit()

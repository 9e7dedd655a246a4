"""The page of a training's settings: what it will be, a preset, and all settings folded away."""

from collections.abc import Sequence

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QLineEdit, QSizePolicy, QVBoxLayout, QWidget

from napari_synapse_cl.config import Config, recipe_values
from napari_synapse_cl.errors import InputError, SettingError
from napari_synapse_cl.widgets.forms.form import Form
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

    def show_plan(self, several: Sequence[LayerData], *, measure: bool) -> bool:
        """Say what a training on some volumes will be, or why there can be none.

        Parameters
        ----------
        measure
            Whether the machine may be measured.

        Returns
        -------
        bool
            Whether the settings can be used.
        """
        try:
            config = self.form.config()
        except InputError as error:
            self.summary.show_problem(error)
            return False
        self.summary.show_plan(several, config, self.presets.configs(config), measure=measure)
        return True

    def _count_epochs(self) -> None:
        """Let the epochs count that were filled in by hand, in place of the steps."""
        if not self._settings.is_loading:
            self.form.editor("num_steps").value = 0

    def _compare(self) -> None:
        self.form.compare_with(recipe_values(self.presets.name), self.presets.title)

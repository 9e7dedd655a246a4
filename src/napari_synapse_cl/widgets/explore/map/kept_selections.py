"""Selections that are kept under a name: columns of the layer, which follow its points."""

from typing import Any

import numpy as np
from qtpy.QtCore import QSignalBlocker
from qtpy.QtWidgets import QComboBox, QVBoxLayout, QWidget

from napari_synapse_cl.errors import InputError
from napari_synapse_cl.system.words import counted
from napari_synapse_cl.widgets.button_rows import Buttons
from napari_synapse_cl.widgets.explore.state import Exploration
from napari_synapse_cl.widgets.layers.features import METADATA_KEY, feature_match
from napari_synapse_cl.widgets.layouts import bare
from napari_synapse_cl.widgets.look import button, telling

KIND = "selection"
"""What the layer's metadata call such a column."""


def kept_names(exploration: Exploration) -> list[str]:
    """Return the names of the selections that are kept."""
    if exploration.layer is None:
        return []
    records: dict[str, Any] = exploration.layer.metadata.get(METADATA_KEY, {})
    columns = exploration.column_names
    return [
        name
        for name, record in records.items()
        if name in columns and isinstance(record, dict) and record.get("kind") == KIND
    ]


def kept_rows(exploration: Exploration, name: str) -> np.ndarray:
    """Return the ascending int64 rows of a selection that is kept."""
    # Points that were added since have no cell there.
    cells = exploration.column(name).astype(object).to_numpy()
    return np.flatnonzero([cell is True or cell is np.True_ or cell == 1 for cell in cells])


def keep(exploration: Exploration, name: str) -> None:
    """Keep what is selected under a name, also in place of what was kept under it.

    Raises
    ------
    InputError
        If it has no name, or one that another column has, or nothing is selected.
    """
    if not name:
        raise InputError("name the selection before you keep it")
    if feature_match(name) is not None:
        raise InputError(f"{name} is what an extraction calls its columns: choose another name")
    if name in exploration.column_names and name not in kept_names(exploration):
        raise InputError(f"the points have a column {name} already: choose another name")
    if not len(exploration.selected):
        raise InputError("no point is selected")
    chosen = np.zeros(exploration.n, bool)
    chosen[exploration.selected] = True
    exploration.set_column(name, chosen, {"kind": KIND, "points": int(chosen.sum())})


class KeptSelections(QWidget):
    """Keeps what is selected under a name, and selects it again.

    Parameters
    ----------
    exploration
        What is explored.

    Attributes
    ----------
    box
        The name.
    keep_button, select_button, remove_button
        Keep, select, and forget.
    """

    def __init__(self, exploration: Exploration) -> None:
        super().__init__()
        self._exploration = exploration
        self.box = QComboBox()
        self.box.setEditable(True)
        self.box.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self.box.setInsertPolicy(QComboBox.InsertPolicy.NoInsert)
        self.box.setAccessibleName("Name of a selection")
        self.box.lineEdit().setPlaceholderText("Name of a selection")
        self.keep_button = button(
            "Keep",
            "<qt>Keep what is selected under this name, as a column of the layer.</qt>",
            self._keep,
        )
        self.select_button = button("Select", "Select what is kept under this name", self._select)
        self.remove_button = button("Forget", "Forget what is kept under this name", self._remove)
        self.box.setMinimumContentsLength(8)
        buttons = (self.keep_button, self.select_button, self.remove_button)
        bare(QVBoxLayout(self)).addWidget(Buttons((self.box, *buttons)))
        self.box.activated.connect(self._select)
        self.box.editTextChanged.connect(self._update_buttons)
        exploration.selected_changed.connect(self._update_buttons)
        exploration.columns_changed.connect(self.refresh)
        exploration.rows_changed.connect(self.refresh)
        self.refresh()

    def refresh(self) -> None:
        """List what is kept."""
        names, text = kept_names(self._exploration), self.box.currentText()
        if names != [self.box.itemText(i) for i in range(self.box.count())]:
            with QSignalBlocker(self.box):
                self.box.clear()
                self.box.addItems(names)
                self.box.setEditText(text)
        self._update_buttons()

    @property
    def _name(self) -> str:
        return str(self.box.currentText()).strip()

    def _update_buttons(self) -> None:
        names, n = kept_names(self._exploration), len(self._exploration.selected)
        self.keep_button.setEnabled(n > 0)
        for one in (self.select_button, self.remove_button):
            one.setEnabled(self._name in names)
        of = counted(n, "point") if n else "what is selected"
        self.keep_button.setAccessibleDescription(f"Keeps {of} under this name")

    def _keep(self) -> None:
        with telling():
            keep(self._exploration, self._name)

    def _select(self) -> None:
        if self._name in kept_names(self._exploration):
            self._exploration.select(kept_rows(self._exploration, self._name))

    def _remove(self) -> None:
        self._exploration.remove_column(self._name)
        self.box.clearEditText()

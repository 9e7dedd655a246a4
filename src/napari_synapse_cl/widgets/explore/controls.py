"""What stands above the gallery: tabs of tools, and choices of a column to order or colour by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, QSignalBlocker, Signal
from qtpy.QtWidgets import QComboBox, QHBoxLayout, QTabBar, QVBoxLayout, QWidget

from napari_synapse_cl.data import pd
from napari_synapse_cl.widgets.button_rows import GAP
from napari_synapse_cl.widgets.explore.state import Exploration
from napari_synapse_cl.widgets.jobs.job import LatestOnly
from napari_synapse_cl.widgets.layouts import bare
from napari_synapse_cl.widgets.look import ChoiceBox, button

if TYPE_CHECKING:
    from napari_synapse_cl.features.neighbours import Metric

AS_IN_LAYER = "the layer"
LARGEST_WHOLE = 2**53
"""From which a float no longer tells whole numbers apart."""
ASCENDING, DESCENDING = "▲", "▼"


class MetricBox(QComboBox):
    """How far apart vectors are.

    Parameters
    ----------
    tip
        What it is chosen for, as plain text of whole sentences.
    """

    def __init__(self, tip: str) -> None:
        super().__init__()
        self._metrics: dict[str, Metric] = {"Cosine": "cosine", "Euclidean": "euclidean"}
        self.addItems(list(self._metrics))
        self.setAccessibleName("Distance")
        self.setToolTip(
            f"<qt>Cosine compares directions of vectors, Euclidean their places. {tip}</qt>"
        )

    @property
    def chosen(self) -> Metric:
        """The one that is chosen."""
        return self._metrics[self.currentText()]


class Tools(QWidget):
    """A bar of tabs, and below it the page of the one that is chosen.

    Qt's own tabs are as high as the highest page, whichever is in front.

    Attributes
    ----------
    bar
        The tabs.
    """

    changed = Signal(QWidget)
    """Emitted with the page that has come to the front."""

    def __init__(self) -> None:
        super().__init__()
        self.bar = QTabBar()
        self.bar.setAccessibleName("Tools")
        self.bar.setExpanding(False)
        self.bar.setDrawBase(False)
        self.pages: list[QWidget] = []
        self._layout = bare(QVBoxLayout(self), GAP)
        self._top = bare(QHBoxLayout(), GAP)
        self._top.addWidget(self.bar)
        # Where the bar is longer than its tabs, the rest looks like one more.
        self._top.addStretch(1)
        self._layout.addLayout(self._top)
        self.bar.currentChanged.connect(self._show)

    def add(self, name: str, page: QWidget, tip: str) -> None:
        """Add a page."""
        self.pages.append(page)
        self._layout.addWidget(page)
        index = self.bar.addTab(name)
        self.bar.setTabToolTip(index, tip)
        page.setVisible(index == self.bar.currentIndex())

    def add_button(self, button: QWidget) -> None:
        """Put a button beside the tabs."""
        self._top.addWidget(button)

    @property
    def page(self) -> QWidget:
        """The one in front."""
        return self.pages[self.bar.currentIndex()]

    def show_page(self, page: QWidget) -> None:
        """Bring a page to the front."""
        self.bar.setCurrentIndex(self.pages.index(page))

    def _show(self, index: int) -> None:
        for number, page in enumerate(self.pages):
            page.setVisible(number == index)
        if 0 <= index < len(self.pages):
            self.changed.emit(self.pages[index])


class ColumnChoice(ChoiceBox):
    """A choice of the columns of what is explored, or of none.

    Parameters
    ----------
    none
        What to call the choice of none.
    prefix
        What stands before the names of columns.
    """

    chosen = Signal()
    """Emitted when a person has chosen."""

    def __init__(self, state: Exploration, none: str, prefix: str) -> None:
        super().__init__(n_letters=10)
        self._state, self._prefix = state, prefix
        self.addItem(none)
        self.activated.connect(self.chosen)
        state.columns_changed.connect(self._show_columns)
        state.rows_changed.connect(self._show_columns)
        self._show_columns()

    @property
    def column(self) -> str | None:
        """The chosen column."""
        name: str | None = self.currentData()
        return name

    def choose(self, column: str | None) -> None:
        """Choose a column, if it is there, or none."""
        self.setCurrentIndex(max(0, self.findData(column) if column is not None else 0))

    def _show_columns(self) -> None:
        names = self._state.column_names
        if names == [self.itemData(i) for i in range(1, self.count())]:
            return
        column, is_none = self.column, self.currentIndex() < 0
        with QSignalBlocker(self):
            for index in range(self.count() - 1, 0, -1):
                self.removeItem(index)
            for name in names:
                self.addItem(f"{self._prefix} {name}", name)
            self.choose(column)
            if is_none:
                self.setCurrentIndex(-1)


class Ordering(QObject):
    """Orders rows by a column, in a worker: a million texts take a while.

    Attributes
    ----------
    box, direction_button
        Choose the column, and whether the largest come first.
    """

    def __init__(self, state: Exploration) -> None:
        super().__init__()
        self._state = state
        self.box = ColumnChoice(state, f"Order of {AS_IN_LAYER}", "Order by")
        self.box.setAccessibleName("Order")
        self.box.setToolTip(
            "<qt>Column by which the gallery is ordered; what has no value comes last</qt>"
        )
        self.direction_button = button(ASCENDING, clicked=self._turn)
        self.direction_button.setAccessibleName("Direction of the order")
        self.direction_button.setToolTip("Smallest first, or largest first")
        self._sorter = LatestOnly(_sorted)
        self._sorter.done.connect(self._show)
        self.box.chosen.connect(self.apply)
        state.order_changed.connect(self._on_order)
        self._own = False

    def apply(self) -> None:
        """Order by what is chosen."""
        state, name = self._state, self.box.column
        if state.layer is None:
            return
        if self.box.currentIndex() < 0:
            scores = None if state.scores is None else state.scores[::-1]
            self._set(state.order[::-1], state.order_title, scores)
        elif name is None:
            rows = np.arange(state.n)
            self._set(rows if self._is_ascending else rows[::-1], "", None)
        else:
            values = state.column(name).copy()
            self._sorter.ask(state.vectors, name, values, self._is_ascending)

    def order_by(self, name: str, *, largest_first: bool) -> None:
        """Order by a column."""
        self.box.choose(name)
        self.direction_button.setText(DESCENDING if largest_first else ASCENDING)
        self.apply()

    def release(self) -> None:
        """Order nothing any more."""
        self._sorter.forget()

    @property
    def _is_ascending(self) -> bool:
        return self.direction_button.text() == ASCENDING

    def _turn(self) -> None:
        self.direction_button.setText(DESCENDING if self._is_ascending else ASCENDING)
        self.apply()

    def _show(self, found: tuple[Any, str, np.ndarray, np.ndarray | None]) -> None:
        vectors, name, rows, scores = found
        # Rows that were deleted meanwhile have no place.
        if vectors is self._state.vectors:
            self._set(rows, f"by {name}", scores)

    def _set(self, rows: np.ndarray, title: str, scores: np.ndarray | None) -> None:
        self._own = True
        self._state.set_order(rows, title, scores)
        self._own = False

    def _on_order(self) -> None:
        if self._own:
            return
        # What orders the rows otherwise, as similarity does, is no column.
        title = self._state.order_title
        self.box.choose(None)
        if title:
            self.box.setPlaceholderText(f"{title[0].upper()}{title[1:]}")
            self.box.setCurrentIndex(-1)


def _sorted(
    vectors: Any, name: str, values: pd.Series, ascending: bool
) -> tuple[Any, str, np.ndarray, np.ndarray | None]:
    """Return the rows in the order of their values, and these where they are numbers."""
    from napari_synapse_cl.data.tables.columns import numbers_said

    values = values.reset_index(drop=True)
    numbers = None if values.dtype.kind in "mM" else numbers_said(values)
    keys = values
    if numbers is not None and np.nanmax(np.abs(numbers), initial=0) < LARGEST_WHOLE:
        keys = pd.Series(numbers)
    else:
        # Ids of more digits than a float holds are compared as they are.
        numbers = None
        if len(set(values.dropna().map(type))) > 1 or isinstance(values.dtype, pd.CategoricalDtype):
            keys = values.astype(object).map(str, na_action="ignore")
    order = keys.sort_values(ascending=ascending, kind="stable", na_position="last").index
    rows = order.to_numpy(np.int64)
    return vectors, name, rows, None if numbers is None else numbers[rows]

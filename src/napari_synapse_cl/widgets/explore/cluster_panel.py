"""Find clusters, look at what is typical of each and what lies between them, name and join them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import QSignalBlocker, Qt, Signal
from qtpy.QtWidgets import (
    QComboBox,
    QHeaderView,
    QSpinBox,
    QStackedWidget,
    QTreeWidget,
    QTreeWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_synapse_cl.widgets.button_rows import Buttons
from napari_synapse_cl.widgets.explore.clustering import Groups, Query, find, look_again
from napari_synapse_cl.widgets.explore.controls import MetricBox
from napari_synapse_cl.widgets.explore.search import Search
from napari_synapse_cl.widgets.explore.state import Exploration
from napari_synapse_cl.widgets.jobs.job import LatestOnly
from napari_synapse_cl.widgets.layouts import bare
from napari_synapse_cl.widgets.look import button, expected, paragraph, sentence, tell

if TYPE_CHECKING:
    from napari_synapse_cl.features.clusters import Method

METHODS: dict[str, Method] = {
    "k-means": "kmeans",
    "Gaussian mixture": "mixture",
    "HDBSCAN": "hdbscan",
}
COLUMN = "cluster"
FOUND, EDITED = "clusters", "clusters, named or joined by hand"
"""What the record says of it; what a person has changed is not written over."""
MOST = 100
"""Clusters that may be asked for."""
SIZE, LARGEST = 15, 10_000
"""Fewest rows of a cluster of HDBSCAN, and the most that these may be."""
LINES = 3
CLUSTER, ROWS = range(2)


class ClusterPanel(QWidget):
    """Clusters with their names and sizes, and buttons that show crops of them.

    Attributes
    ----------
    groups
        The clusters, None where there are none.
    column
        Where they stand.
    """

    told = Signal(str)
    """Emitted with what happened, in words."""
    written = Signal(str)
    """Emitted with the name of the column that new clusters stand in."""

    def __init__(self, state: Exploration) -> None:
        super().__init__()
        self._state = state
        self.groups: Groups | None = None
        self.column = COLUMN
        self.method_box = QComboBox()
        self.method_box.addItems(list(METHODS))
        self.method_box.setAccessibleName("Way of clustering")
        self.method_box.setToolTip(
            "<qt>k-means makes round clusters, a mixture also long ones; HDBSCAN finds dense parts "
            "and leaves out what lies between them</qt>"
        )
        self.metric_box = MetricBox("Clusters are found by the one or the other.")
        self.number_box = QSpinBox()
        self.size_box = QSpinBox()
        self._numbers = QStackedWidget()
        self.find_button = button("", clicked=self._find_or_stop)
        self.table = self._make_table()
        self.typical_button = button(
            "Typical", "Show the nine nearest to the middle", lambda: self._look_at("typical")
        )
        self.border_button = button(
            "Borderline", "Show the nine nearest to another", lambda: self._look_at("borderline")
        )
        self.all_button = button("All", "Show all of it", lambda: self._look_at("all"))
        self.join_button = button(
            "Join", "<qt>Make one of those that are chosen (Ctrl or Shift)</qt>", self.join
        )
        self.words = paragraph(selectable=True)
        self._search = Search(find)
        self._search.done.connect(self._take)
        self._search.failed.connect(lambda error: tell(expected(error)))
        self._search.told.connect(self.told)
        self._search.changed.connect(self._update)
        self._looker = LatestOnly(look_again)
        self._looker.done.connect(self._take_shown)
        # With napari the panel is closed without a word.
        self.destroyed.connect(self._search.stop)
        state.rows_changed.connect(self._on_rows)
        self.method_box.activated.connect(self._update)
        self._set_up_numbers()
        self._lay_out()
        self._show()

    def find(self) -> None:
        """Find clusters, and write them into a column."""
        state, method = self._state, METHODS[self.method_box.currentText()]
        if state.vectors is None:
            return
        n = self.number_box.value()
        if n == self.number_box.minimum() or method == "hdbscan":
            n = 0
        size, metric = self.size_box.value(), self.metric_box.chosen
        self._search.start(Query(state, state.vectors, method, n, size, metric))

    def rename(self, number: int, name: str) -> None:
        """Call a cluster otherwise; under a name that is there both become one."""
        groups = self.groups
        if groups is None or not name or name == groups.names[number]:
            return
        same = [other for other, old in groups.names.items() if old == name]
        if same:
            self._join([number, *same], name)
        else:
            self._change(groups.renamed(number, name))

    def join(self) -> None:
        """Make one of the clusters that are chosen, called as the first of them."""
        numbers = self._chosen
        if self.groups is not None and len(numbers) > 1:
            self._join(numbers, self.groups.names[numbers[0]])

    def release(self) -> None:
        """Look for nothing any more."""
        self._search.stop()
        self._looker.forget()

    def _join(self, numbers: list[int], name: str) -> None:
        assert self.groups is not None
        self._change(self.groups.joined(numbers, name))
        self._looker.ask(self.groups)

    def _change(self, groups: Groups) -> None:
        self.groups = groups
        self._state.set_column(self.column, groups.cells, groups.record(EDITED))
        self._show()

    def _take(self, groups: Groups) -> None:
        state, found = self._state, groups.found
        vectors = groups.query.vectors
        if vectors is not state.vectors:
            return
        self.groups = groups
        self.column = state.own_name(COLUMN, FOUND)
        state.set_column(self.column, groups.cells, groups.record(FOUND))
        *words, stability = found.in_words()
        n = len(vectors.rows)
        if found.n_fitted < n:
            words.append(f"they are made from {found.n_fitted:,} of {n:,} rows; the others join")
        words.append(f"they stand in the column {self.column}")
        self.words.setText(f"<small>{sentence(stability)}</small>")
        self._show()
        self.told.emit(" ".join(map(sentence, words)))
        self.written.emit(self.column)

    def _take_shown(self, groups: Groups) -> None:
        # Another name makes no other cluster.
        if self.groups is not None and groups.codes is self.groups.codes:
            self.groups = replace(self.groups, typical=groups.typical, borderline=groups.borderline)
            self._update()

    def _look_at(self, what: str) -> None:
        """Show crops of the cluster that is chosen: "typical", "borderline" or "all"."""
        groups, numbers = self.groups, self._chosen
        if groups is None or len(numbers) != 1:
            return
        name = groups.names[numbers[0]]
        some = {"typical": groups.typical, "borderline": groups.borderline}
        if what == "all":
            rows, title = np.flatnonzero(groups.codes == numbers[0]), f"all of {name}"
        elif numbers[0] in some[what]:
            rows = some[what][numbers[0]]
            title = f"typical of {name}" if what == "typical" else f"at the border of {name}"
        else:
            return
        self._state.set_order(rows, title)

    def _on_rows(self) -> None:
        groups, before = self.groups, self._state.rows_before
        self.release()
        if groups is not None and before is not None:
            self.groups = groups.of_rows(before, self._state.vectors)
            self._looker.ask(self.groups)
        else:
            self.groups = None
            self.words.setText("")
        self._show()

    def _set_up_numbers(self) -> None:
        self.number_box.setRange(1, MOST)
        self.number_box.setSpecialValueText("Automatic")
        self.number_box.setAccessibleName("Number of clusters")
        self.number_box.setToolTip("How many; automatic tries up to 12 and takes the clearest")
        self.size_box.setRange(2, LARGEST)
        self.size_box.setValue(SIZE)
        self.size_box.setPrefix("from ")
        self.size_box.setSuffix(" rows")
        self.size_box.setAccessibleName("Least size")
        self.size_box.setToolTip("Fewest rows of a cluster; smaller ones are none")

    def _make_table(self) -> QTreeWidget:
        table = QTreeWidget()
        table.setHeaderLabels(["Cluster", "Rows"])
        table.setAccessibleName("Clusters")
        table.setRootIsDecorated(False)
        table.setSelectionMode(QTreeWidget.SelectionMode.ExtendedSelection)
        table.setEditTriggers(QTreeWidget.EditTrigger.DoubleClicked)
        table.setToolTip(
            "<qt>A click shows what is typical of a cluster. Double-click to change its name.</qt>"
        )
        header = table.header()
        header.setStretchLastSection(False)
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(CLUSTER, QHeaderView.ResizeMode.Stretch)
        table.itemChanged.connect(self._on_edit)
        table.itemSelectionChanged.connect(self._update)
        table.itemClicked.connect(lambda: self._look_at("typical"))
        return table

    def _lay_out(self) -> None:
        self.table.setFixedHeight((LINES + 1) * (self.fontMetrics().height() + 8))
        layout = bare(QVBoxLayout(self))
        self._numbers.addWidget(self.number_box)
        self._numbers.addWidget(self.size_box)
        layout.addWidget(Buttons((self.method_box, self.metric_box)))
        layout.addWidget(Buttons((self._numbers, self.find_button)))
        layout.addWidget(self.table)
        shown = (self.typical_button, self.border_button, self.all_button)
        layout.addWidget(Buttons((*shown, self.join_button)))
        layout.addWidget(self.words)

    def _find_or_stop(self) -> None:
        if self._search.is_running:
            self._search.stop()
            self.told.emit("stopped")
        else:
            self.find()

    @property
    def _chosen(self) -> list[int]:
        """Numbers of the clusters that are chosen, the largest cluster first."""
        items = self.table.selectedItems()
        return sorted(item.data(CLUSTER, Qt.ItemDataRole.UserRole) for item in items)

    def _show(self) -> None:
        groups = self.groups
        with QSignalBlocker(self.table):
            self.table.clear()
            counts = {} if groups is None else groups.counts
            for number, count in counts.items():
                if groups is None or not count:
                    continue
                item = QTreeWidgetItem([groups.names[number], f"{count:,}"])
                item.setData(CLUSTER, Qt.ItemDataRole.UserRole, number)
                item.setTextAlignment(ROWS, Qt.AlignmentFlag.AlignRight)
                if number:
                    item.setFlags(item.flags() | Qt.ItemFlag.ItemIsEditable)
                self.table.addTopLevelItem(item)
        self._update()

    def _on_edit(self, item: QTreeWidgetItem, column: int) -> None:
        number, name = item.data(CLUSTER, Qt.ItemDataRole.UserRole), item.text(CLUSTER).strip()
        if column == CLUSTER:
            self.rename(number, name)
        # Sizes are no one's to write, and a cluster has a name.
        self._show()

    def _update(self) -> None:
        is_running, numbers = self._search.is_running, self._chosen
        self.find_button.setText("Stop" if is_running else "Find clusters")
        self.find_button.setToolTip(
            "End the search" if is_running else "Find clusters, and write them into a column"
        )
        self.find_button.setEnabled(self._state.vectors is not None)
        counts_itself = METHODS[self.method_box.currentText()] == "hdbscan"
        self._numbers.setCurrentWidget(self.size_box if counts_itself else self.number_box)
        is_one = self.groups is not None and len(numbers) == 1
        is_shown = self.groups is not None and is_one and numbers[0] in self.groups.typical
        self.typical_button.setEnabled(is_shown)
        self.border_button.setEnabled(is_shown)
        self.all_button.setEnabled(is_one)
        self.join_button.setEnabled(len(numbers) > 1)

"""Label what is selected by keys, have the rest predicted, and see how good that is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QSignalBlocker, QSize, Qt, Signal
from qtpy.QtGui import QColor, QIcon, QPixmap
from qtpy.QtWidgets import (
    QCheckBox,
    QColorDialog,
    QDoubleSpinBox,
    QFileDialog,
    QHeaderView,
    QLineEdit,
    QTreeWidget,
    QTreeWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_synapse_cl.errors import InputError
from napari_synapse_cl.widgets.button_rows import Buttons
from napari_synapse_cl.widgets.explore.labelling.labels import Labels
from napari_synapse_cl.widgets.explore.labelling.teaching import (
    Lesson,
    Prediction,
    apply,
    ask,
    keep,
    measure,
    predict,
)
from napari_synapse_cl.widgets.explore.score import ScoreDialog
from napari_synapse_cl.widgets.explore.state import Exploration
from napari_synapse_cl.widgets.jobs.job import LatestOnly
from napari_synapse_cl.widgets.layouts import bare
from napari_synapse_cl.widgets.look import button, expected, sentence, tell

if TYPE_CHECKING:
    from napari_synapse_cl.features.prediction import Evaluation

KEY, CLASS, ROWS = range(3)
LINES = 4
SQUARE = 12
FILTER = "Classifiers (*.npz)"
FOUND = "predict"
"""What the record says of columns that come from here."""


class LabelPanel(QWidget):
    """Classes with their keys and counts, and buttons that learn from labels.

    Attributes
    ----------
    labels
        What was labelled.
    table
        A line for each class.
    """

    told = Signal(str)
    """Emitted with what happened, in words."""
    labelled = Signal()
    """Emitted when what is selected was labelled by a key."""

    def __init__(self, state: Exploration) -> None:
        super().__init__()
        self._state = state
        self.labels = Labels(state)
        self.table = self._make_table()
        self.column_edit = QLineEdit(self.labels.column)
        self.column_edit.setAccessibleName("Column of labels")
        self.column_edit.setToolTip("Name of the column that labels are written into")
        self.add_button = button("Add class", "Another class, with the next key", self._add)
        self.undo_button = button("Undo", "Take back the last labels (Ctrl+Z)", self.labels.undo)
        self.redo_button = button("Redo", "Give them again (Ctrl+Shift+Z)", self.labels.redo)
        self.predict_button = button(
            "Predict",
            "<qt>Learn from the labels, and write what the other points are into columns: the "
            "class, its probability, and how uncertain that is</qt>",
            self.predict,
        )
        self.measure_button = button(
            "How good?",
            "<qt>Measure how well labels in parts of the volume are told from those in the "
            "others</qt>",
            self.measure,
        )
        self.always_box = QCheckBox("Predict always")
        self.always_box.setToolTip("Predict again whenever something was labelled")
        self.reject_box = QDoubleSpinBox()
        self.reject_box.setRange(0, 1)
        self.reject_box.setSingleStep(0.05)
        self.reject_box.setPrefix("none below ")
        self.reject_box.setAccessibleName("Least probability")
        self.reject_box.setToolTip("Where the most probable class is less so, none is told")
        self.score: ScoreDialog | None = None
        self.next_button = button(
            "Ask me next",
            "<qt>Show the crops whose label would teach most: uncertain ones, such as are typical "
            "of many, and such as are far from all labels</qt>",
            self.ask_next,
        )
        self.save_button = button(
            "Save …",
            "<qt>Save what the labels teach as a file that can be applied to other points with the "
            "same vector, here and by synapse-cl</qt>",
            self._ask_where,
        )
        self.apply_button = button(
            "Apply …",
            "<qt>Have a classifier of a file tell what the points without a label are</qt>",
            self._ask_which,
        )
        self._teacher, self._judge = LatestOnly(predict), LatestOnly(measure)
        self._asker, self._keeper = LatestOnly(ask), LatestOnly(keep)
        self._reader = LatestOnly(apply)
        self._teacher.done.connect(self._show_prediction)
        self._reader.done.connect(self._show_prediction)
        self._judge.done.connect(self._show_score)
        self._asker.done.connect(self._show_asked)
        self._keeper.done.connect(self.told.emit)
        self._workers = (self._teacher, self._judge, self._asker, self._keeper, self._reader)
        for one in self._workers:
            one.failed.connect(self._on_failure)
        self._lay_out()
        self.labels.changed.connect(self._show_classes)
        self.labels.told.connect(self.told)
        self.column_edit.editingFinished.connect(self._use_column)
        self.table.itemChanged.connect(self._on_edit)
        self.table.itemClicked.connect(self._on_click)
        self.table.itemDoubleClicked.connect(self._on_double_click)
        state.rows_changed.connect(self._forget)
        self._show_classes()

    def press(self, digit: int) -> None:
        """Give what is selected the class of a key, 1 to 9; 0 takes labels away."""
        rows = self._state.selected
        if not len(rows):
            self.told.emit("nothing is selected that could be labelled")
            return
        classes = self.labels.classes
        while len(classes) < digit:
            self.labels.add_class(f"class {len(classes) + 1}")
        self.labels.assign(rows, classes[digit - 1] if digit else None)
        if self.always_box.isChecked():
            self.predict()
        self.labelled.emit()

    def predict(self) -> None:
        """Predict the labels of the rows that have none."""
        if self._state.vectors is not None:
            self.told.emit("learning …")
            self._teacher.ask(self._lesson())

    def measure(self) -> None:
        """Measure how good predictions are."""
        if self._state.vectors is not None:
            self.told.emit("holding out parts of the volume …")
            self._judge.ask(self._lesson())

    def ask_next(self) -> None:
        """Show what is worth a label."""
        state = self._state
        if state.vectors is None:
            return
        column = state.own_name("uncertainty", FOUND)
        is_there = column in state.column_names
        values = state.column(column).to_numpy(float) if is_there else None
        self._asker.ask(state, self._lesson(), values)

    def save(self, path: Path) -> None:
        """Save a classifier that the labels teach."""
        if self._state.layer is not None:
            self.told.emit("learning …")
            self._keeper.ask(self._lesson(), self.labels.column, self._state.layer.name, path)

    def apply(self, path: Path) -> None:
        """Predict the labels of the rows that have none by a classifier of a file."""
        if self._state.layer is not None:
            self.told.emit(f"reading {path.name} …")
            self._reader.ask(self._lesson(), self._state.layer.name, path)

    def release(self) -> None:
        """Learn nothing any more."""
        for one in self._workers:
            one.forget()

    def _ask_where(self) -> None:
        chosen, _ = QFileDialog.getSaveFileName(self, "Save a classifier", "classifier.npz", FILTER)
        if chosen:
            path = Path(chosen)
            self.save(path if path.suffix == ".npz" else path.with_name(f"{path.name}.npz"))

    def _ask_which(self) -> None:
        chosen, _ = QFileDialog.getOpenFileName(self, "Apply a classifier", "", FILTER)
        if chosen:
            self.apply(Path(chosen))

    def _lesson(self) -> Lesson:
        assert self._state.vectors is not None
        return Lesson(self._state.vectors, self.labels.values, self.reject_box.value())

    def _make_table(self) -> QTreeWidget:
        table = QTreeWidget()
        table.setHeaderLabels(["Key", "Class", "Rows"])
        table.setAccessibleName("Classes")
        table.setRootIsDecorated(False)
        table.setEditTriggers(QTreeWidget.EditTrigger.NoEditTriggers)
        table.setToolTip(
            "<qt>Keys 1 to 9 label what is selected, while the gallery has the focus; 0 or Delete "
            "takes the label away. A click on a key does so too. Double-click a name to change "
            "it, a count to change the colour.</qt>"
        )
        header = table.header()
        header.setStretchLastSection(False)
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(CLASS, QHeaderView.ResizeMode.Stretch)
        table.setIconSize(QSize(SQUARE, SQUARE))
        return table

    def _lay_out(self) -> None:
        line = self.fontMetrics().height() + 8
        self.table.setFixedHeight((LINES + 1) * line)
        layout = bare(QVBoxLayout(self))
        layout.addWidget(self.table)
        layout.addWidget(
            Buttons((self.column_edit, self.add_button, self.undo_button, self.redo_button))
        )
        layout.addWidget(Buttons((self.predict_button, self.next_button, self.measure_button)))
        files = (self.save_button, self.apply_button)
        layout.addWidget(Buttons((self.always_box, self.reject_box), files))

    def _add(self) -> None:
        self.labels.add_class(f"class {len(self.labels.classes) + 1}")
        item = self.table.topLevelItem(self.table.topLevelItemCount() - 1)
        self.table.editItem(item, CLASS)

    def _show_classes(self) -> None:
        labels = self.labels
        counts = labels.counts
        with QSignalBlocker(self.table):
            self.table.clear()
            for number, (name, n) in enumerate(counts.items(), start=1):
                key = str(number) if number < 10 else ""
                item = QTreeWidgetItem([key, name, f"{n:,}"])
                item.setFlags(item.flags() | Qt.ItemFlag.ItemIsEditable)
                square = QPixmap(SQUARE, SQUARE)
                square.fill(QColor(labels.color_of(name)))
                item.setIcon(KEY, QIcon(square))
                item.setTextAlignment(ROWS, Qt.AlignmentFlag.AlignRight)
                self.table.addTopLevelItem(item)
        if not self.column_edit.hasFocus():
            self.column_edit.setText(labels.column)
        self.undo_button.setEnabled(labels.can_undo)
        self.redo_button.setEnabled(labels.can_redo)
        is_there = self._state.layer is not None
        n_used = sum(n > 0 for n in counts.values())
        for one in (self.predict_button, self.measure_button, self.save_button):
            one.setEnabled(n_used > 1)
        self.apply_button.setEnabled(is_there)
        self.next_button.setEnabled(is_there)
        self.add_button.setEnabled(is_there)
        self.column_edit.setEnabled(is_there)

    def _on_edit(self, item: QTreeWidgetItem, column: int) -> None:
        place = self.table.indexOfTopLevelItem(item)
        old = self.labels.classes[place]
        new = item.text(CLASS).strip()
        if column == CLASS and new and new != old:
            self.labels.rename(old, new)
        else:
            # Keys and counts are no one's to write, and a class has a name.
            self._show_classes()

    def _on_click(self, item: QTreeWidgetItem, column: int) -> None:
        place = self.table.indexOfTopLevelItem(item)
        if column == KEY and len(self._state.selected):
            self.press(place + 1)

    def _on_double_click(self, item: QTreeWidgetItem, column: int) -> None:
        if column == CLASS:
            self.table.editItem(item, CLASS)
        elif column == ROWS:
            self.choose_color(self.table.indexOfTopLevelItem(item))

    def choose_color(self, place: int) -> None:
        """Ask for the colour of a class."""
        name = self.labels.classes[place]
        color = QColorDialog.getColor(QColor(self.labels.color_of(name)), self, f"Colour of {name}")
        if color.isValid():
            self.labels.set_color(name, color.name())

    def _use_column(self) -> None:
        name = self.column_edit.text().strip()
        if name == self.labels.column or self._state.layer is None:
            return
        try:
            self.labels.use(name)
        except InputError as error:
            tell(error)
            self.column_edit.setText(self.labels.column)

    def _forget(self) -> None:
        self.release()
        self._close_score()

    def _show_prediction(self, found: Prediction) -> None:
        state = self._state
        if found.lesson.vectors is not state.vectors:
            return
        record = {
            "found": FOUND,
            "vectors": list(found.lesson.vectors.names),
            "label_column": self.labels.column,
            "told": list(found.words),
        }
        columns = ("predicted", "probability", "uncertainty")
        names = []
        for name in columns:
            names.append(state.own_name(name, FOUND))
            state.set_column(names[-1], getattr(found, name), record)
        self.told.emit(f"{'. '.join(map(sentence, found.words))} In columns {', '.join(names)}")

    def _show_score(self, found: Evaluation) -> None:
        self._close_score()
        self.score = ScoreDialog(found, self)
        self.score.destroyed.connect(self._forget_score)
        self.score.show()
        self.told.emit("measured how good predictions are")

    def _close_score(self) -> None:
        if self.score is not None:
            self.score.close()

    def _forget_score(self) -> None:
        self.score = None

    def _show_asked(self, found: tuple[Any, np.ndarray, str]) -> None:
        vectors, rows, words = found
        if vectors is self._state.vectors:
            self._state.set_order(rows, "asked next")
            self._state.select(rows[:1])
            self.told.emit(f"label these: {words}" if words else "all have a label")

    def _on_failure(self, error: Exception) -> None:
        self.told.emit(str(expected(error)))

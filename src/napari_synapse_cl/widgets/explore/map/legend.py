"""What colours of a map mean: classes that can be hidden, or a scale of numbers."""

import html

from qtpy.QtCore import QSignalBlocker, QSize, Qt
from qtpy.QtGui import QColor, QIcon, QPixmap
from qtpy.QtWidgets import QListWidget, QListWidgetItem, QVBoxLayout, QWidget

from napari_synapse_cl.widgets.explore.state import Exploration
from napari_synapse_cl.widgets.layouts import bare
from napari_synapse_cl.widgets.look import paragraph

MOST_ENTRIES = 200
"""Classes that are listed; the others are counted."""
N_LINES = 4
"""That are in sight at once, at most."""
SQUARE = 10
"""Side of the patches of colour, in pixels."""
PADDING = 2


class _Classes(QListWidget):
    """A list no higher than what is in it, and than some lines."""

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Ask for the height of its lines."""
        lines = max(1, min(self.count(), N_LINES))
        line = max(self.sizeHintForRow(0), self.fontMetrics().lineSpacing() + PADDING)
        return QSize(super().sizeHint().width(), lines * line + 2 * self.frameWidth() + PADDING)

    def minimumSizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Ask for the height of its lines."""
        return QSize(super().minimumSizeHint().width(), self.sizeHint().height())


class MapLegend(QWidget):
    """The legend of what is explored; a click on a box hides the class, or shows it again.

    Parameters
    ----------
    exploration
        What is explored.

    Attributes
    ----------
    classes
        The list of classes.
    text
        The scale, and what else is to be said.
    """

    def __init__(self, exploration: Exploration) -> None:
        super().__init__()
        self._exploration = exploration
        self.classes = _Classes()
        self.classes.setAccessibleName("Classes shown in the map")
        self.classes.setToolTip("<qt>Hide a class in the map and in the viewer, or show it.</qt>")
        self.classes.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.classes.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        self.classes.itemChanged.connect(self._on_box)
        self.text = paragraph()
        layout = bare(QVBoxLayout(self), PADDING)
        layout.addWidget(self.classes)
        layout.addWidget(self.text)
        exploration.colors_changed.connect(self.refresh)
        self._shown: object = None
        self.refresh()

    def refresh(self) -> None:
        """Show what colours mean now."""
        entries, scale = self._exploration.legend, self._exploration.scale
        if entries is not self._shown:
            self._shown = entries
            self._fill()
        with QSignalBlocker(self.classes):
            for number in range(self.classes.count()):
                item = self.classes.item(number)
                hidden = item.data(Qt.ItemDataRole.UserRole) in self._exploration.hidden
                item.setCheckState(Qt.CheckState.Unchecked if hidden else Qt.CheckState.Checked)
        said = []
        if scale is not None:
            squares = "".join(f'<span style="color: {color}">■</span>' for color in scale.colors)
            said.append(f"{html.escape(scale.low)} {squares} {html.escape(scale.high)}")
        if len(entries) > MOST_ENTRIES:
            said.append(f"and {len(entries) - MOST_ENTRIES:,} classes more")
        self.text.setText("<br>".join(said))
        self.text.setVisible(bool(said))

    def _fill(self) -> None:
        entries = self._exploration.legend[:MOST_ENTRIES]
        with QSignalBlocker(self.classes):
            self.classes.clear()
            for entry in entries:
                patch = QPixmap(SQUARE, SQUARE)
                patch.fill(QColor(entry.color))
                item = QListWidgetItem(QIcon(patch), f"{entry.label} ({entry.count:,})")
                item.setData(Qt.ItemDataRole.UserRole, entry.label)
                item.setToolTip(entry.label)
                item.setFlags(item.flags() | Qt.ItemFlag.ItemIsUserCheckable)
                item.setCheckState(Qt.CheckState.Checked)
                self.classes.addItem(item)
        self.classes.setVisible(bool(entries))
        self.classes.setMaximumHeight(self.classes.sizeHint().height())
        self.classes.updateGeometry()

    def _on_box(self, item: QListWidgetItem) -> None:
        label = item.data(Qt.ItemDataRole.UserRole)
        if (item.checkState() == Qt.CheckState.Unchecked) != (label in self._exploration.hidden):
            self._exploration.toggle(label)

"""A line above the gallery: whether near vectors are alike in more than brightness."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import QTimer

from napari_synapse_cl.widgets.explore.coloring import NO_VALUE
from napari_synapse_cl.widgets.explore.state import Exploration
from napari_synapse_cl.widgets.jobs.job import LatestOnly
from napari_synapse_cl.widgets.layouts import Paragraph
from napari_synapse_cl.widgets.look import MARK, MARK_COLOR, expected, sentence

if TYPE_CHECKING:
    from napari_synapse_cl.features.brightness import Judgement
    from napari_synapse_cl.features.vectors import VectorTable

NEIGHBOURS = 15
"""That are looked at."""
MOST_LABELS = 50
"""Classes beyond which a column is no label."""
DELAY_MS = 500
"""Time without another table or column after which it is looked at."""
WITHOUT = (
    "whether near vectors are alike in brightness alone cannot be told: extract the features with "
    "descriptors"
)
OF_ITSELF = "the histogram of grey values is among these numbers: they are not compared with it"


class HonestyLine(Paragraph):
    """Says in the background whether neighbours reflect brightness only, or tell labels by chance.

    Labels are those of the column that colours stand for, where it has classes.

    Parameters
    ----------
    exploration
        What is explored.
    """

    def __init__(self, exploration: Exploration) -> None:
        super().__init__()
        self._exploration = exploration
        self._of: tuple[object, ...] | None = None
        self._judge = LatestOnly(_judge)
        self._judge.done.connect(self._show)
        self._judge.failed.connect(self._show_error)
        self._soon = QTimer(self, singleShot=True, interval=DELAY_MS, timeout=self._ask)
        self.setToolTip(
            f"<qt>The {NEIGHBOURS} nearest of each are compared with those by the histogram of "
            "grey values. With classes as colours it is measured how well both tell the class, in "
            "parts of the volume that were held out.</qt>"
        )
        exploration.rows_changed.connect(self._soon.start)
        exploration.colors_changed.connect(self._soon.start)
        self.hide()
        self._soon.start()

    def release(self) -> None:
        """Look at nothing more, when the dock is closed."""
        self._soon.stop()
        self._judge.forget()

    def _ask(self) -> None:
        state = self._exploration
        vectors, column = state.vectors, state.color_column
        classes = [entry for entry in state.legend if entry.label != NO_VALUE]
        if column is None or not 1 < len(classes) <= MOST_LABELS:
            column = None
        # Cells may have changed too: their colours are others then.
        asked = (vectors, column, None if column is None else state.legend)
        if self._of is not None and all(a is b for a, b in zip(self._of, asked, strict=True)):
            return
        self._of = asked
        self._judge.forget()
        self.hide()
        if vectors is None or len(vectors.rows) < 2:
            return
        labels = None
        if column is not None:
            cells = state.column(column).astype(object)
            labels = cells.map(str).where(cells.notna(), "").to_numpy(str)
        self._judge.ask(vectors, labels)

    def _show(self, found: Judgement | str) -> None:
        text = sentence(found if isinstance(found, str) else found.text)
        if not isinstance(found, str) and found.is_doubtful:
            text = f"<span style='color:{MARK_COLOR}'>{MARK}{text}</span>"
        self.setText(f"<small>{text}</small>")
        self.show()

    def _show_error(self, error: Exception) -> None:
        self._of = None
        self.setText(f"<small>{sentence(str(expected(error)))}</small>")
        self.show()


def _judge(vectors: VectorTable, labels: np.ndarray | None) -> Judgement | str:
    """Return what is found, or why nothing can be."""
    # It takes longer to import than a dock should to open.
    from napari_synapse_cl.features.brightness import is_by_hand, judge

    if is_by_hand(vectors):
        return OF_ITSELF
    return judge(vectors, NEIGHBOURS, "cosine", labels) or WITHOUT

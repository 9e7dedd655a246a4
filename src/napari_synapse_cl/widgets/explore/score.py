"""A window that says how well labels are told, beside chance and what is simpler."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from qtpy.QtCore import QSize, Qt
from qtpy.QtWidgets import QApplication, QDialog, QVBoxLayout, QWidget

from napari_synapse_cl.widgets.layouts import scrolling
from napari_synapse_cl.widgets.look import button, paragraph, sentence

if TYPE_CHECKING:
    from napari_synapse_cl.features.prediction import Accuracy, Evaluation

SIZE = (480, 420)


class ScoreDialog(QDialog):
    """What was measured on parts of the volume that were held out.

    Parameters
    ----------
    parent
        The window that it is shown above.

    Attributes
    ----------
    text
        The sentences, and how rows of each class were told.
    plain_text
        The sentences alone.
    copy_button
        Copies these.
    """

    def __init__(self, found: Evaluation, parent: QWidget) -> None:
        super().__init__(parent)
        self.setWindowTitle("How good are predictions?")
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.resize(QSize(*SIZE).boundedTo(parent.window().size()))
        words = "".join(f"<p>{html.escape(sentence(one))}</p>" for one in found.in_words())
        table = _confusion(found.scores[0]) if found.scores else ""
        self.text = paragraph(f"<qt>{words}{table}</qt>", selectable=True)
        self.text.setAlignment(Qt.AlignmentFlag.AlignTop)
        self.plain_text = "\n".join(sentence(one) for one in found.in_words())
        self.copy_button = button("Copy", "Copy the sentences", self._copy)
        layout = QVBoxLayout(self)
        layout.addWidget(scrolling(self.text))
        layout.addWidget(self.copy_button)

    def _copy(self) -> None:
        QApplication.clipboard().setText(self.plain_text)


def _confusion(score: Accuracy) -> str:
    """Return how rows of each class were told, as a table of rich text."""
    names = [html.escape(name) for name in score.f1]
    head = "".join(f"<th align='right'>&nbsp;{name}</th>" for name in names)
    lines = [
        f"<tr><td>{name}</td>" + "".join(f"<td align='right'>{n}</td>" for n in line) + "</tr>"
        for name, line in zip(names, score.confusion, strict=True)
    ]
    return f"<table><tr><th align='left'>is \\ told</th>{head}</tr>{''.join(lines)}</table>"

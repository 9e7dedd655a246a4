"""Ask what is to become of features that are there already."""

from collections.abc import Sequence
from typing import Literal

from qtpy.QtWidgets import QMessageBox, QWidget

Answer = Literal["replace", "keep", "cancel"]
REPLACE, KEEP = "Replace", "Keep both"


def ask_about_columns(parent: QWidget, layer: str, prefixes: Sequence[str], new: str) -> Answer:
    """Ask whether to replace columns, to add new ones beside them, or to leave it.

    Parameters
    ----------
    parent
        The window that asks.
    layer
        Name of the layer.
    prefixes
        What the names of the columns begin with that are there.
    new
        What the names of new ones would begin with.
    """
    names = ", ".join(f"{prefix}_…" for prefix in prefixes)
    box = QMessageBox(
        QMessageBox.Icon.Question,
        "Features are there",
        f"The layer {layer} has the columns {names} already.",
        parent=parent,
    )
    box.setInformativeText(
        f"“{REPLACE}” writes the new features in their place; “{KEEP}” adds new columns {new}_… "
        "beside them."
    )
    replace = box.addButton(REPLACE, QMessageBox.ButtonRole.DestructiveRole)
    keep = box.addButton(KEEP, QMessageBox.ButtonRole.AcceptRole)
    box.addButton(QMessageBox.StandardButton.Cancel)
    box.setDefaultButton(keep)
    box.exec()
    clicked = box.clickedButton()
    box.deleteLater()
    if clicked is replace:
        return "replace"
    return "keep" if clicked is keep else "cancel"

"""The buttons of a training."""

from qtpy.QtGui import QKeySequence, QShortcut
from qtpy.QtWidgets import QGridLayout, QPushButton, QWidget

from napari_synapse_cl.runs.bin import KEPT_DAYS
from napari_synapse_cl.widgets.layouts import bare
from napari_synapse_cl.widgets.look import button
from napari_synapse_cl.widgets.train.questions import UNDO

N_COLUMNS = 12
START_KEYS, STOP_KEYS = "Ctrl+Return", "Ctrl+."
DISCARD = "Discard …"


class TrainButtons(QWidget):
    """Two rows of buttons; what ends a training for good lies apart from what keeps it.

    Parameters
    ----------
    start
        The button that starts a training.

    Attributes
    ----------
    pause, stop, detach, discard
        For a training that runs.
    runs, extract
        For what comes before and after.
    """

    def __init__(self, start: QPushButton) -> None:
        super().__init__()
        start.setToolTip(f"Train on the chosen layers with these settings ({START_KEYS})")
        self.pause = button("Pause", "Wait after the present step, or go on")
        self.stop = button(
            "Stop",
            "<qt>End after the present step and keep the network as it is then; the run can be "
            f"continued later ({STOP_KEYS})</qt>",
        )
        self.detach = button(
            "Detach",
            "<qt>Show it here no longer and let it go on; “Attach” in the table of runs shows it "
            "again</qt>",
        )
        self.runs = button(
            "Runs …",
            "<qt>The trainings so far as a table: continue one, attach to one that runs, compare "
            "them</qt>",
        )
        self.extract = button(
            "Extract features", "Put features of the trained network onto the points"
        )
        self.discard = button(DISCARD)
        grid = bare(QGridLayout(self), 4)
        for one, row, column, width in (
            (start, 0, 0, 3),
            (self.pause, 0, 3, 3),
            (self.stop, 0, 6, 3),
            (self.detach, 0, 9, 3),
            (self.runs, 1, 0, 3),
            (self.extract, 1, 3, 4),
            (self.discard, 1, 8, 4),
        ):
            grid.addWidget(one, row, column, 1, width)
        for column in range(N_COLUMNS):
            grid.setColumnStretch(column, 1)
        for keys, pressed in ((START_KEYS, start), (STOP_KEYS, self.stop)):
            # A button forgets its own key when its text changes.
            QShortcut(QKeySequence(keys), self, pressed.click)

    def offer_undo(self, is_offered: bool) -> None:
        """Let the button that discards take that back, or discard again."""
        self.discard.setText(UNDO if is_offered else DISCARD)
        self.discard.setToolTip(
            "<qt>Take the run out of the bin again, to where it was</qt>"
            if is_offered
            else "<qt>End it and give up what it has made. Once an epoch has ended this is asked "
            f"about, and can be undone for {KEPT_DAYS} days.</qt>"
        )

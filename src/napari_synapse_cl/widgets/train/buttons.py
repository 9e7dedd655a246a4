"""The buttons of a training."""

from qtpy.QtWidgets import QGridLayout, QPushButton, QWidget

from napari_synapse_cl.widgets.look import bare, button

N_COLUMNS = 12


class TrainButtons(QWidget):
    """Two rows of buttons.

    Parameters
    ----------
    start
        The button that starts a training.

    Attributes
    ----------
    pause, stop, discard
        For a training that runs.
    go_on, attach
        For runs that were begun elsewhere or before.
    extract
        For what comes after.
    """

    def __init__(self, start: QPushButton) -> None:
        super().__init__()
        start.setToolTip("Train on the chosen layers with these settings")
        self.pause = button("Pause", "Wait after the present step, or go on")
        self.stop = button(
            "Stop and keep", "End after the present step and keep the network as it is then"
        )
        self.discard = button("Discard", "End and remove everything this training has written")
        self.go_on = button(
            "Continue run …",
            "<qt>Go on with a run that has ended, from its last checkpoint: choose its folder</qt>",
        )
        self.attach = button(
            "Attach to run …",
            "<qt>Show a training that was started from a terminal, on a cluster or before napari "
            "was closed: choose its folder. Detaching leaves it as it is.</qt>",
        )
        self.extract = button(
            "Extract features", "Put features of the trained network onto the points"
        )
        grid = bare(QGridLayout(self), 4)
        for one, row, column, width in (
            (start, 0, 0, 2),
            (self.pause, 0, 2, 3),
            (self.stop, 0, 5, 4),
            (self.discard, 0, 9, 3),
            (self.go_on, 1, 0, 4),
            (self.attach, 1, 4, 4),
            (self.extract, 1, 8, 4),
        ):
            grid.addWidget(one, row, column, 1, width)
        for column in range(N_COLUMNS):
            grid.setColumnStretch(column, 1)

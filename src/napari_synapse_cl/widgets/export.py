"""Save what a monitor shows."""

from collections.abc import Callable
from pathlib import Path

from qtpy.QtWidgets import QWidget

from napari_synapse_cl.data.late_pandas import pd
from napari_synapse_cl.errors import InputError, reason
from napari_synapse_cl.files import replacing
from napari_synapse_cl.training.runs import RunFolder


def export_picture(widget: QWidget, path: Path) -> None:
    """Save a widget as it is drawn, as a PNG file.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    _write(path, lambda temporary: widget.grab().save(str(temporary), "PNG"))


def export_table(folder: Path, path: Path) -> None:
    """Save the metrics of a run as one CSV table: a row a step, an epoch's values at its last.

    Raises
    ------
    InputError
        If there are none, or the file cannot be written.
    """
    run = RunFolder(folder)
    try:
        steps = pd.read_csv(run.steps_file)
        epochs = pd.read_csv(run.epochs_file) if run.epochs_file.exists() else None
    except (OSError, ValueError):
        raise InputError(f"there are no metrics in {folder} to save") from None
    if epochs is not None:
        steps = steps.merge(epochs.drop(columns="epoch"), on="step", how="left")

    def write(temporary: Path) -> bool:
        steps.to_csv(temporary, index=False)
        return True

    _write(path, write)


def _write(path: Path, write: Callable[[Path], bool]) -> None:
    try:
        with replacing(path) as temporary:
            if not write(temporary):
                raise OSError("Qt could not write the picture")
    except OSError as error:
        raise InputError(f"{path} cannot be written: {reason(error)}") from None

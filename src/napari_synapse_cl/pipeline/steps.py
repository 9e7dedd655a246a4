"""What the jobs of the pipeline share."""

from collections.abc import Iterator
from pathlib import Path

from napari_synapse_cl.config import Config
from napari_synapse_cl.control import Control
from napari_synapse_cl.data.dataset import Dataset
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.events import Event, Message, Paused, Resumed
from napari_synapse_cl.training.runs import RunFolder


def make_folder(folder: RunFolder) -> None:
    """Make the folder for results.

    Raises
    ------
    InputError
        If it cannot be made.
    """
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"cannot write to the output folder {folder.path}: {error.strerror}"
        ) from None


def check_absent(target: Path, config: Config) -> None:
    """Check that a result is not there yet, unless it may be replaced.

    Raises
    ------
    InputError
        If it is.
    """
    if target.exists() and not config.overwrite:
        raise InputError(
            f"{target} is there already; replace it with --overwrite, or name another output folder"
        )


def positions_left_out(dataset: Dataset) -> Iterator[Event]:
    """Warn of synapses outside the volume."""
    n_outside = dataset.positions.n_outside
    if n_outside:
        yield Message(
            f"{n_outside} of {len(dataset.table)} positions lie outside {dataset.name} and are "
            "left out; they get no features",
            "warning",
        )


def wait_while_paused(control: Control) -> Iterator[Event]:
    """Wait for the end of a pause, if there is one."""
    if control.paused:
        yield Paused()
        control.wait()
        yield Resumed()

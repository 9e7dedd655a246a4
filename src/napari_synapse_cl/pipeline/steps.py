"""What the jobs of the pipeline share."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from napari_synapse_cl.config import Config
from napari_synapse_cl.control import Control
from napari_synapse_cl.data.cutting import REASONS, unusable_counts
from napari_synapse_cl.data.dataset import Dataset
from napari_synapse_cl.distributed import Ranks
from napari_synapse_cl.errors import InputError, reason
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
            f"cannot write to the output folder {folder.path}: {reason(error)}"
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


def how_data_were_read(dataset: Dataset) -> Iterator[Event]:
    """Tell how tables were read, and what of them is left out."""
    for text, level in dataset.messages:
        yield Message(text, level)


def crops_left_out(states: np.ndarray, consequence: str) -> Iterator[Event]:
    """Warn of crops that cannot be used.

    Parameters
    ----------
    states
        The :class:`CropState` of each.
    consequence
        What that means, as in "they get no features".
    """
    for state, n in unusable_counts(states).items():
        yield Message(
            f"{n:,} of {len(states):,} crops are left out, each of which {REASONS[state]}: "
            f"{consequence}",
            "warning",
        )


def wait_while_paused(control: Control) -> Iterator[Event]:
    """Wait for the end of a pause, if there is one."""
    if control.paused:
        yield Paused()
        control.wait()
        yield Resumed()


def stopped(control: Control, ranks: Ranks) -> bool:
    """Return whether the job should end, once any of the processes has been told so."""
    wishes = ranks.everyones((control.stopping, control.discarding))
    if any(discarding for _, discarding in wishes):
        control.request("discard")
    elif any(stopping for stopping, _ in wishes):
        control.request("stop")
    return control.stopping

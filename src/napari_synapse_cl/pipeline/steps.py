"""What the jobs of the pipeline share."""

import os
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from queue import SimpleQueue
from threading import Thread

import numpy as np

from napari_synapse_cl.config import Config, is_url
from napari_synapse_cl.data.crops.cutting import REASONS, unusable_counts
from napari_synapse_cl.data.dataset import Dataset
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.runs.events import Control, Event, Message, Progress
from napari_synapse_cl.runs.folder import default_folder
from napari_synapse_cl.system.distributed import Ranks
from napari_synapse_cl.system.downloads import is_cached, local_file
from napari_synapse_cl.system.files import read_record
from napari_synapse_cl.system.folder_lock import HeldError, Hold

MARKS_OF_RECORDS = {"napari-synapse-cl", "napari_synapse_cl", "pooling"}
"""Each record that this program writes has one of them; the last that of its first version."""

MIB = 2**20


@contextmanager
def held(output: Path | None, ranks: Ranks) -> Iterator[tuple[Path, list[str]]]:
    """Hold the folder for results as long as the block runs.

    Of several processes the main one holds it for all.

    Parameters
    ----------
    output
        The folder; without it that is a new one.
    ranks
        The processes that work together.

    Yields
    ------
    folder
        The folder.
    warnings
        What to tell.

    Raises
    ------
    InputError
        In all processes, if another job holds it, or it cannot be written to.
    """
    hold, folder = None, output or Path()
    refusal: str | None = None
    while ranks.is_main and hold is None and refusal is None:
        folder = output or default_folder()
        try:
            hold = Hold(folder)
        except InputError as error:
            # Another job may have made the new folder at the same instant.
            if output is not None or not isinstance(error, HeldError):
                refusal = str(error)
    try:
        folder, refusal = ranks.agree((folder, refusal))
    except BaseException:
        if hold is not None:
            hold.release(void=True)
        raise
    if refusal is not None:
        raise InputError(refusal)
    with hold or nullcontext():
        yield folder, [hold.note] if hold is not None and hold.note else []


def check_absent(targets: Iterable[Path], config: Config) -> None:
    """Check that results are not there yet, unless they may be replaced.

    Records that are not this program's, and folders, are not replaced in any case.

    Raises
    ------
    InputError
        If one is.
    """
    for target in targets:
        if not os.path.lexists(target):
            continue
        if not config.overwrite:
            raise InputError(
                f"{target} is there already; replace it with --overwrite, or name another output "
                "folder"
            )
        if target.is_dir() or (target.suffix == ".json" and not _is_record(target)):
            raise InputError(
                f"{target} is not replaced: it is no result of this program; move it away, or name "
                "another output folder"
            )


def _is_record(file: Path) -> bool:
    return not MARKS_OF_RECORDS.isdisjoint(read_record(file))


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


def stopped(control: Control, ranks: Ranks) -> bool:
    """Return whether the job should end, once any of the processes has been told so."""
    wishes = ranks.everyones((control.stopping, control.discarding))
    if any(discarding for _, discarding in wishes):
        control.request("discard")
    elif any(stopping for stopping, _ in wishes):
        control.request("stop")
    return control.stopping


def fetch_checkpoints(config: Config, control: Control) -> Generator[Event, None, None]:
    """Download what is not there yet; what needs a checkpoint then finds it.

    Raises
    ------
    InputError
        If it cannot be had.
    """
    for location in (config.pretrained, config.checkpoint):
        if location is not None and is_url(location) and not is_cached(location):
            yield from _fetch(location, control)


def _fetch(location: str, control: Control) -> Generator[Event, None, None]:
    told: SimpleQueue[tuple[int, int | None] | Exception | None] = SimpleQueue()

    def work() -> None:
        try:
            local_file(location, lambda done, total: told.put((done, total)))
        # Raised again where it is heard.
        except Exception as error:
            told.put(error)
        else:
            told.put(None)

    Thread(target=work, daemon=True).start()
    while (news := told.get()) is not None:
        if isinstance(news, Exception):
            raise news
        done, total = news
        mib = -(-done // MIB)
        yield Progress("downloading the network", mib, -(-total // MIB) if total else mib, "MiB")
        if control.stopping:
            return

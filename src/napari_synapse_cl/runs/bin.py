"""The bin: runs that were discarded wait in a folder beside the others before they are removed.

What a run has made is moved, which takes no time and no room; others' files stay where they are.
"""

import os
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from napari_synapse_cl.errors import InputError, reason
from napari_synapse_cl.runs.folder import RunFolder
from napari_synapse_cl.system.files import read_json, write_json
from napari_synapse_cl.system.folder_lock import HeldError, Hold, remove_marks, remove_quietly
from napari_synapse_cl.system.words import listing

BIN = "synapse_cl_bin"
KEPT_DAYS = 14
"""How long a run stays in the bin, at least."""
NOTE = ".synapse-cl.discarded.json"
"""Says of a run in the bin where it was, and when it was discarded."""
PATIENCE = 60.0
"""In seconds: how long a training that was stopped may take to let go of its folder."""


@dataclass(frozen=True)
class BinnedRun:
    """A run that was discarded."""

    path: Path
    """Where it lies now."""
    origin: Path
    """Where it was."""
    discarded: datetime
    """When it was moved."""

    @property
    def is_due(self) -> bool:
        """Whether it has been in the bin for as long as runs are kept there."""
        return datetime.now(UTC) - self.discarded > timedelta(days=KEPT_DAYS)


def move_to_bin(folder: Path) -> BinnedRun:
    """Move what a run has made into the bin beside its folder, once no job holds it any more.

    Raises
    ------
    InputError
        If there is no run, one that does not end, or it cannot be moved; it is as it was then.
    """
    # A link leads to another disk, where the bin is to be.
    folder = folder.resolve()
    run = RunFolder(folder)
    if not run.holds_run:
        raise InputError(f"there is no run in {folder} that could be moved to the bin")
    now = datetime.now(UTC)
    try:
        with _held(folder):
            target = _new_place(folder)
            target.mkdir(parents=True)
            said = {"from": str(folder), "discarded": now.isoformat(timespec="seconds")}
            write_json(target / NOTE, said)
            try:
                run.owned.move(target)
            except OSError:
                _remove_place(target)
                raise
    except OSError as error:
        raise InputError(
            f"the run in {folder} cannot be moved to the bin and stays where it is: {_why(error)}"
        ) from None
    remove_marks(folder)
    return BinnedRun(target, folder, now)


def put_back(binned: BinnedRun) -> Path:
    """Move a run from the bin to where it was, and return that.

    Raises
    ------
    InputError
        If it is not in the bin any more, or something else is where it was.
    """
    run = RunFolder(binned.path)
    if not run.holds_run:
        raise InputError(f"the run that was in {binned.origin} is not in the bin any more")
    try:
        with Hold(binned.origin):
            run.owned.move(binned.origin)
    except OSError as error:
        raise InputError(
            f"the run cannot be put back to {binned.origin} and stays in the bin: {_why(error)}"
        ) from None
    _remove_place(binned.path)
    return binned.origin


def runs_in_bin(parent: Path) -> list[BinnedRun]:
    """Return the runs that were discarded from a folder of runs, those first that came last."""
    found = []
    for note in (parent / BIN).glob(f"*/{NOTE}"):
        with suppress(OSError, ValueError, KeyError, TypeError):
            said = read_json(note)
            when = datetime.fromisoformat(said["discarded"]).astimezone(UTC)
            found.append(BinnedRun(note.parent, Path(said["from"]), when))
    return sorted(found, key=lambda run: run.discarded, reverse=True)


def empty_bin(parent: Path) -> list[BinnedRun]:
    """Remove the runs that have been in the bin of a folder of runs for long; return them.

    What their jobs have not made stays.
    """
    due = [run for run in runs_in_bin(parent) if run.is_due]
    for run in due:
        with suppress(OSError):
            RunFolder(run.path).discard()
            _remove_place(run.path)
    return [run for run in due if not os.path.exists(run.path)]


def empty_bins(parents: Iterable[Path]) -> str:
    """Empty the bins of folders of runs, and say what was removed; nothing if nothing was."""
    gone = [run.origin.name for parent in dict.fromkeys(parents) for run in empty_bin(parent)]
    return f"removed from the bin, after {KEPT_DAYS} days: {listing(gone)}" if gone else ""


def _held(folder: Path) -> Hold:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return Hold(folder)
        except HeldError as error:
            if time.monotonic() > deadline:
                raise InputError(
                    f"the run in {folder} stays where it is: {error.holder} works on it; stop it "
                    "first"
                ) from None
            time.sleep(0.1)


def _new_place(folder: Path) -> Path:
    names = (folder.name + suffix for suffix in ("", *(f"_{i}" for i in range(2, 10_000))))
    places = (folder.parent / BIN / name for name in names)
    return next(place for place in places if not os.path.lexists(place))


def _remove_place(place: Path) -> None:
    """Remove a run's folder in the bin, and the bin, where nothing else is in them."""
    remove_quietly(place / NOTE)
    remove_marks(place)
    with suppress(OSError):
        place.parent.rmdir()


def _why(error: OSError) -> str:
    # What is there already is told by its name.
    return str(error) if isinstance(error, FileExistsError) and not error.errno else reason(error)

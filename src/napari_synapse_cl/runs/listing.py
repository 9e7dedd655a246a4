"""What runs there are in folders, what of each there is to see in a table, and the bin.

Runs that were discarded wait in a bin beside the others before they are removed. What a run has
made is moved there, which takes no time and no room; others' files stay where they are.
"""

import os
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from napari_synapse_cl.config.training_sections import TrainingConfig
from napari_synapse_cl.errors import InputError, reason
from napari_synapse_cl.runs.events import EpochDone
from napari_synapse_cl.runs.folder import RunFolder
from napari_synapse_cl.runs.health import best_of
from napari_synapse_cl.runs.metrics import epoch_events, read_metrics
from napari_synapse_cl.system.files import read_json, read_record, write_json
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
    latest = datetime.now(UTC) - timedelta(days=KEPT_DAYS)
    due = [run for run in runs_in_bin(parent) if run.discarded < latest]
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


ListedState = Literal["running", "paused", "finished", "stopped", "failed", "damaged", "in the bin"]
_ENDED: dict[str, ListedState] = {
    "completed": "finished",
    "stopped": "stopped",
    "failed": "failed",
}
_RESULTS = (
    *(f"features_*.{kind}" for kind in ("csv", "parquet", "npz", "h5ad", "npy")),
    "maps_*.zarr",
)
LAYERS = "image layers"
"""What a run was trained on that read its crops from the window."""


@dataclass(frozen=True)
class ListedRun:
    """A run as a table shows it."""

    folder: Path
    name: str
    """What its person calls it; else that of its folder."""
    begun: datetime | None
    volume: str
    """What it was trained on: names of files."""
    state: ListedState
    note: str
    """More of the state: why it failed, what is damaged."""
    epochs: int
    planned: int
    best: EpochDone | None
    metric: str
    """By which the best epoch is judged."""
    n_bytes: int
    """What its folder takes on the disk."""
    results: tuple[Path, ...] = ()
    """Tables of features, and maps, that its network has made."""
    binned: BinnedRun | None = None
    """Where it was before it was discarded, None for one that was not."""

    @property
    def can_go_on(self) -> bool:
        """Whether it can be continued."""
        return self.state in ("finished", "stopped", "failed")

    @property
    def is_active(self) -> bool:
        """Whether some process trains it."""
        return self.state in ("running", "paused")

    @property
    def network(self) -> Path | None:
        """The checkpoint of its best epoch, or else of its last step; None without any."""
        run = RunFolder(self.folder)
        files = (run.best_checkpoint, run.last_checkpoint)
        return next((file for file in files if file.exists()), None)


def list_runs(places: Iterable[Path]) -> list[ListedRun]:
    """Return the runs in some places, those first that were begun last.

    It reads what each run says of itself, and neither crops nor networks.

    Parameters
    ----------
    places
        Folders of runs, or run folders. One that is not there holds none.
    """
    folders: dict[Path, BinnedRun | None] = {}
    results: dict[Path, list[Path]] = {}
    for place in dict.fromkeys(place.absolute() for place in places):
        beside = runs_in_bin(place.parent)
        folders |= {run.path: run for run in beside if run.origin == place.resolve()}
        if RunFolder(place).holds_run:
            folders.setdefault(place)
            continue
        for folder in _folders_in(place):
            if RunFolder(folder).holds_run:
                folders.setdefault(folder)
            elif folder.name != BIN and (found := _results_in(folder)):
                results.setdefault(_origin_of(folder), []).extend(found)
        folders |= {binned.path: binned for binned in runs_in_bin(place)}
    runs = [
        _listed(folder, binned, results.get(folder.resolve(), ()))
        for folder, binned in folders.items()
    ]
    return sorted(runs, key=lambda run: str(run.begun or ""), reverse=True)


def _folders_in(place: Path) -> list[Path]:
    try:
        with os.scandir(place) as entries:
            return [Path(entry.path) for entry in entries if entry.is_dir()]
    except OSError:
        return []


def _results_in(folder: Path) -> list[Path]:
    return sorted(chain.from_iterable(folder.glob(name) for name in _RESULTS))


def _origin_of(folder: Path) -> Path:
    """Return the run folder whose network made the results in a folder; itself if nobody says."""
    for file in (folder / "config.json", *folder.glob("features_*.json")):
        content = read_record(file)
        if isinstance(checkpoint := content.get("checkpoint"), str):
            path = Path(checkpoint)
            return (path if path.is_dir() else path.parent.parent).resolve()
    return folder


def _listed(folder: Path, binned: BinnedRun | None, more: Iterable[Path]) -> ListedRun:
    run = RunFolder(folder)
    config, started = read_record(run.config_file), run.begun()
    metric = str(config.get("best_metric") or TrainingConfig().best_metric)
    epochs: list[EpochDone] = []
    with suppress(OSError, InputError):
        epochs = list(epoch_events(read_metrics(run.epochs_file)))
    begun = None
    with suppress(ValueError, TypeError):
        begun = datetime.fromisoformat(str(started.get("started")))
    state: ListedState = "in the bin"
    note = ""
    if binned is None:
        state, note = _state_of(run, config, len(epochs))
    planned = config.get("num_epochs")
    return ListedRun(
        folder,
        name=run.name if binned is None else str(started.get("name") or binned.origin.name),
        begun=begun,
        volume=_volume_of(config),
        state=state,
        note=note,
        epochs=epochs[-1].epoch if epochs else 0,
        planned=planned if isinstance(planned, int) else 0,
        best=best_of(epochs, metric),
        metric=metric,
        n_bytes=_size_of(folder),
        results=(*_results_in(folder), *more),
        binned=binned,
    )


def _state_of(run: RunFolder, config: dict[str, Any], n_epochs: int) -> tuple[ListedState, str]:
    if not config:
        return "damaged", f"{run.config_file.name} is gone or cannot be read"
    status = run.status()
    if status is None:
        return "damaged", "status.json is gone or cannot be read"
    alive = None if status.has_ended else status.is_alive()
    if not status.has_ended and alive is not False:
        there = "" if alive else f"as far as {status.host} says"
        return ("paused" if status.state == "paused" else "running"), there
    if n_epochs and not run.last_checkpoint.exists():
        return "damaged", f"{run.last_checkpoint.name} is gone"
    if status.has_ended:
        return _ENDED[status.state], status.message
    return "stopped", "its process ended without a word: it was killed, or memory had run out"


def _volume_of(config: dict[str, Any]) -> str:
    dataset = config.get("dataset")
    if isinstance(dataset, str):
        volumes = read_record(Path(dataset)).get("volumes")
        entries = volumes if isinstance(volumes, list) else []
        named = [_volume_of(entry) for entry in entries if isinstance(entry, dict)]
        return ", ".join(named) or Path(dataset).name
    image = config.get("image")
    if isinstance(image, str):
        return image.rstrip("/").rpartition("/")[2]
    return LAYERS if config.get("crops") else ""


def _size_of(folder: Path) -> int:
    size = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            # It may go while one looks.
            with suppress(OSError):
                size += os.lstat(os.path.join(parent, name)).st_size
    return size

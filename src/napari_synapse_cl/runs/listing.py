"""What runs there are in folders, and what of each there is to see in a table."""

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from napari_synapse_cl.config.training_sections import TrainingConfig
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.runs.bin import BIN, BinnedRun, runs_in_bin
from napari_synapse_cl.runs.events import EpochDone
from napari_synapse_cl.runs.folder import RunFolder
from napari_synapse_cl.runs.health import best_of
from napari_synapse_cl.runs.metrics import epoch_events, read_metrics
from napari_synapse_cl.system.files import read_json

ListedState = Literal["running", "paused", "finished", "stopped", "failed", "damaged", "in the bin"]
_ENDED: dict[str, ListedState] = {
    "completed": "finished",
    "stopped": "stopped",
    "failed": "failed",
}
_RESULTS = ("features_*.csv", "features_*.parquet", "features_*.npz", "features_*.h5ad")
_MAPS = ("features_*.npy", "maps_*.zarr")
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
    return sorted(chain.from_iterable(folder.glob(name) for name in (*_RESULTS, *_MAPS)))


def _origin_of(folder: Path) -> Path:
    """Return the run folder whose network made the results in a folder; itself if nobody says."""
    for file in (folder / "config.json", *folder.glob("features_*.json")):
        content = _content(file)
        if isinstance(checkpoint := content.get("checkpoint"), str):
            path = Path(checkpoint)
            return (path if path.is_dir() else path.parent.parent).resolve()
    return folder


def _listed(folder: Path, binned: BinnedRun | None, more: Iterable[Path]) -> ListedRun:
    run = RunFolder(folder)
    config, started = _content(run.config_file), run.begun()
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
        volumes = _content(Path(dataset)).get("volumes")
        entries = volumes if isinstance(volumes, list) else []
        named = [_volume_of(entry) for entry in entries if isinstance(entry, dict)]
        return ", ".join(named) or Path(dataset).name
    image = config.get("image")
    if isinstance(image, str):
        return image.rstrip("/").rpartition("/")[2]
    return LAYERS if config.get("crops") else ""


def _content(file: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError):
        content = read_json(file)
        if isinstance(content, dict):
            return content
    return {}


def _size_of(folder: Path) -> int:
    return sum(_sizes(folder))


def _sizes(folder: Path) -> Iterator[int]:
    for parent, _, names in os.walk(folder):
        for name in names:
            # It may go while one looks.
            with suppress(OSError):
                yield os.lstat(os.path.join(parent, name)).st_size

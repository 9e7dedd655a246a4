"""Maps of what is explored, from the background: principal components, and UMAP on demand."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Literal

import numpy as np
from qtpy.QtCore import QObject, Signal

from napari_synapse_cl.errors import JobError
from napari_synapse_cl.features.projections import (
    check_umap,
    conversation,
    principal_components,
)
from napari_synapse_cl.system.words import counted
from napari_synapse_cl.widgets.explore.state import Exploration
from napari_synapse_cl.widgets.jobs.child import PYTHON, WINDOWS_FLAGS, step_back
from napari_synapse_cl.widgets.jobs.job import LatestOnly
from napari_synapse_cl.widgets.look import expected

if TYPE_CHECKING:
    from napari_synapse_cl.features.vectors import VectorTable

Kind = Literal["components", "umap", "umap of selected"]
MODULE = "napari_synapse_cl.features.projections"
SEED = 0
METRIC: Literal["cosine"] = "cosine"
"""By which near vectors are looked for too."""


@dataclass(frozen=True, eq=False)
class Projection:
    """A map of rows."""

    kind: Kind
    positions: np.ndarray
    """``(n, 2)`` float32, NaN for rows that are not in it."""
    text: str
    """What it is, in words."""
    vectors: object
    """Those it was made of."""


class Stopped(Exception):  # noqa: N818 - it is no error
    """A map is no longer wanted."""


class UmapProcess:
    """UMAP in a process of its own: it holds Python's lock for seconds at a time."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._is_wanted = True

    def make(self, values: np.ndarray, tell: Callable[[int, int], None]) -> np.ndarray:
        """Return ``(N, 2)`` float32 of vectors ``(N, C)``; it takes from seconds to hours.

        Parameters
        ----------
        tell
            Called with how many epochs are done, and of how many.

        Raises
        ------
        Stopped
            If it was ended.
        JobError
            If it crashed.
        """
        with self._lock:
            if not self._is_wanted:
                raise Stopped
            self._process = process = subprocess.Popen(
                [*PYTHON, "-m", MODULE, str(SEED)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                creationflags=WINDOWS_FLAGS,
                process_group=0,
            )
        step_back(process)
        steps = conversation(process, values)
        try:
            while True:
                tell(*next(steps))
        except StopIteration as end:
            return end.value
        except JobError:
            if not self._is_wanted:
                raise Stopped from None
            raise
        finally:
            steps.close()

    def end(self) -> None:
        """End the process, also one that has not begun."""
        with self._lock:
            self._is_wanted = False
            if self._process is not None:
                self._process.kill()


class Projector(QObject):
    """Makes maps of what is explored, one at a time; a map that is no longer wanted is ended.

    Parameters
    ----------
    exploration
        What is explored.
    """

    made = Signal(object)
    """Emitted with a :class:`Projection`."""
    failed = Signal(object)
    """Emitted with the error in place of a map."""
    told = Signal(str)
    """Emitted with how far UMAP is."""

    def __init__(self, exploration: Exploration) -> None:
        super().__init__()
        self._exploration = exploration
        self._process: UmapProcess | None = None
        self._requests = LatestOnly(self._make)
        self._requests.done.connect(self._on_made)
        self._requests.failed.connect(self._on_failed)

    @property
    def is_busy_with_umap(self) -> bool:
        """Whether there is something to stop."""
        return self._process is not None

    def ask(self, kind: Kind) -> None:
        """Ask for a map, in place of one that is being made.

        Raises
        ------
        InputError
            If it cannot be made.
        """
        state = self._exploration
        vectors = state.vectors
        if vectors is None:
            return
        rows = state.selected_vectors if kind == "umap of selected" else vectors.rows
        if kind != "components":
            check_umap(len(rows))
        self.stop()
        if kind != "components":
            self._process = UmapProcess()
        self._requests.ask(kind, vectors, rows, self._process)

    def stop(self) -> None:
        """Make no map any more."""
        self._requests.forget()
        if self._process is not None:
            self._process.end()
            self._process = None

    def _make(
        self, kind: Kind, vectors: VectorTable, rows: np.ndarray, process: UmapProcess | None
    ) -> Projection | None:
        positions = np.full((len(vectors.values), 2), np.nan, np.float32)
        if not len(rows):
            return Projection(kind, positions, "", vectors)
        points = self._exploration.space(METRIC, vectors).points
        if process is None:
            positions[rows], shares = principal_components(points)
            told = " and ".join(f"{share:.0%}" for share in shares)
            text = f"Components with {told} of the variance"
            return Projection(kind, positions, text, vectors)
        what = counted(len(rows), "vector")
        self.told.emit(f"UMAP of {what} begins …")
        some = points if len(rows) == len(points) else points[np.searchsorted(vectors.rows, rows)]
        try:
            positions[rows] = process.make(some, self._tell_epoch)
        except Stopped:
            return None
        return Projection(kind, positions, f"UMAP of {what} (seed {SEED})", vectors)

    def _tell_epoch(self, done: int, total: int) -> None:
        self.told.emit(f"UMAP: epoch {done} of {total}")

    def _on_made(self, projection: Projection | None) -> None:
        self._process = None
        # Points may have been deleted meanwhile.
        if projection is not None and projection.vectors is self._exploration.vectors:
            self.made.emit(projection)

    def _on_failed(self, error: Exception) -> None:
        self._process = None
        self.failed.emit(expected(error))

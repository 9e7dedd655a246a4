"""Crops around points, cut in the background where they are looked at, and kept for a while."""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from time import monotonic

import numpy as np
from napari.layers import Image, Points
from qtpy.QtCore import QObject, Signal

from napari_synapse_cl.data.arrays import nearest_voxel
from napari_synapse_cl.data.crops.cutting import cut_crop
from napari_synapse_cl.data.volumes import Volume
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.system.words import triple
from napari_synapse_cl.widgets.jobs.job import LatestOnly
from napari_synapse_cl.widgets.layers.voxels import volume_of, voxels_in

DEFAULT_EXTENT = 64
"""Voxels along y and x, where vectors do not tell of what size their crops were."""
LEAST, MOST = 8, 256
"""Voxels of a crop along each axis, whatever vectors tell."""
TURN_SECONDS = 0.1
"""After which slices that were cut are shown before others are."""
KEPT_BYTES = 2**26
"""Of slices, and of whole crops."""


class _Kept:
    """Arrays by row, of which the least looked at are forgotten first."""

    def __init__(self) -> None:
        self._arrays: OrderedDict[int, np.ndarray] = OrderedDict()
        self._n_bytes = 0

    def __contains__(self, row: int) -> bool:
        return row in self._arrays

    def get(self, row: int) -> np.ndarray | None:
        if row not in self._arrays:
            return None
        self._arrays.move_to_end(row)
        return self._arrays[row]

    def put(self, row: int, array: np.ndarray) -> None:
        self.drop(row)
        self._arrays[row] = array
        self._n_bytes += array.nbytes
        while self._n_bytes > KEPT_BYTES and len(self._arrays) > 1:
            self.drop(next(iter(self._arrays)))

    def drop(self, row: int) -> None:
        gone = self._arrays.pop(row, None)
        self._n_bytes -= 0 if gone is None else gone.nbytes

    def clear(self) -> None:
        self._arrays.clear()
        self._n_bytes = 0


@dataclass(frozen=True, eq=False)
class _Request:
    """Crops that are to be cut."""

    volume: Volume
    rows: tuple[int, ...]
    voxels: np.ndarray
    """``(m, 3)`` their middles."""
    shape: tuple[int, int, int]
    state: int
    """Of what is followed: what was cut of another is of no use."""


@dataclass(frozen=True, eq=False)
class _Cut:
    """Crops that were cut; a row that could not be has an empty one."""

    request: _Request
    crops: dict[int, np.ndarray]
    problem: str = ""


class Crops(QObject):
    """Crops around the points of a layer in a volume: one slice of each, or the whole.

    What is asked for and not there is cut in a worker, and told of.

    Attributes
    ----------
    problem
        Why there are no pictures, in words; empty where there are.
    shape
        Size of a crop along z, y, x in voxels of the volume.
    """

    changed = Signal()
    """Emitted when there are more slices or crops, or others, or a problem with them."""

    def __init__(self) -> None:
        super().__init__()
        self.problem = ""
        self.shape = (1, 1, 1)
        self._image: Image | None = None
        self._points: Points | None = None
        self._volume: Volume | None = None
        self._state = 0
        self._slices, self._wholes = _Kept(), _Kept()
        self._wanted: tuple[int, ...] = ()
        self._slicer, self._cutter = (LatestOnly(_cut, tell_overtaken=True) for _ in range(2))
        self._slicer.done.connect(self._on_slices)
        self._cutter.done.connect(self._on_wholes)

    def follow(
        self, image: Image | None, points: Points | None, extent: Sequence[int] | None
    ) -> None:
        """Cut from this volume around these points, in place of others.

        Parameters
        ----------
        extent
            Size of a crop along z, y, x in voxels; None where it is not known.
        """
        self._image, self._points = image, points
        self._volume, self.problem = None, ""
        self.forget()
        if points is None:
            return
        try:
            if image is None:
                raise InputError("there is no volume, so there are no pictures of the points")
            self._volume = volume_of(image)
            self.shape = _shape_of(image, extent)
        except InputError as error:
            self.problem = str(error)
        self.changed.emit()

    def forget(self) -> None:
        """Keep nothing of what was cut: points or voxels may be others."""
        self._state += 1
        self._wanted = ()
        self._slicer.forget()
        self._cutter.forget()
        self._slices.clear()
        self._wholes.clear()

    @property
    def is_there(self) -> bool:
        """Whether there is a volume to cut from."""
        return self._volume is not None

    @property
    def proportions(self) -> np.ndarray:
        """``(3,)`` lengths of a voxel along z, y, x, the shortest 1."""
        scale = np.ones(3) if self._image is None else np.abs(self._image.scale)
        return np.asarray(scale / scale.min())

    def grey(self, values: np.ndarray) -> np.ndarray:
        """Return ``(H, W)`` uint8 of grey values, with the contrast that the layer has."""
        assert self._image is not None
        low, high = self._image.contrast_limits
        scaled = (values.astype(np.float32) - low) * (255 / ((high - low) or 1))
        return np.ascontiguousarray(np.nan_to_num(scaled).clip(0, 255), np.uint8)

    def slice_of(self, row: int) -> np.ndarray | None:
        """Return the middle slice across z, ``(H, W)``, empty if it cannot be had; None so far."""
        return self._slices.get(row)

    def whole(self, row: int) -> np.ndarray | None:
        """Return a whole crop, ``(D, H, W)``, empty if it cannot be had; None so far.

        It is cut then.
        """
        found = self._wholes.get(row)
        if found is None:
            self._ask(self._cutter, [row], self.shape)
        return found

    def want(self, rows: Iterable[int]) -> None:
        """Cut slices of these rows, those that are in sight, in their order."""
        self._wanted = tuple(rows)
        self._want_more()

    def _want_more(self) -> None:
        missing = [row for row in self._wanted if row not in self._slices]
        if missing:
            self._ask(self._slicer, missing, (1, *self.shape[1:]))

    def _ask(self, worker: LatestOnly, rows: list[int], shape: tuple[int, int, int]) -> None:
        if self._volume is None or self._image is None or self._points is None:
            return
        places = voxels_in(self._image, self._points, self._points.data[rows])
        voxels = nearest_voxel(places)
        worker.ask(_Request(self._volume, tuple(rows), voxels, shape, self._state))

    def _on_slices(self, cut: _Cut) -> None:
        if cut.request.state != self._state:
            return
        for row, crop in cut.crops.items():
            self._slices.put(row, crop[0] if len(crop) else np.empty((0, 0)))
        self._tell(cut)
        self._want_more()

    def _on_wholes(self, cut: _Cut) -> None:
        if cut.request.state != self._state:
            return
        for row, crop in cut.crops.items():
            self._wholes.put(row, crop)
        self._tell(cut)

    def _tell(self, cut: _Cut) -> None:
        if cut.problem:
            self.problem = cut.problem
        self.changed.emit()


def _cut(request: _Request) -> _Cut:
    """Cut crops for a while."""
    crops: dict[int, np.ndarray] = {}
    problem, end = "", monotonic() + TURN_SECONDS
    volume = request.volume
    voxels = request.voxels
    inside = np.all((voxels >= 0) & (voxels < volume.shape), axis=1)
    for row, voxel, is_inside in zip(request.rows, voxels, inside.tolist(), strict=True):
        crops[row] = np.empty((0, 0, 0))
        if is_inside:
            try:
                crops[row] = np.array(cut_crop(volume, voxel.astype(int).tolist(), request.shape))
            # Lazy volumes raise whatever their files and servers do.
            except Exception as error:
                problem = f"{volume.name} could not be read: {error}"
        if monotonic() > end:
            break
    return _Cut(request, crops, problem)


def _shape_of(image: Image, extent: Sequence[int] | None) -> tuple[int, int, int]:
    if extent is None:
        scale = np.abs(np.asarray(image.scale, float))
        extent = (DEFAULT_EXTENT * scale[1:].min() / scale).round().astype(int).tolist()
    return triple(int(np.clip(n, LEAST if axis else 1, MOST)) for axis, n in enumerate(extent))

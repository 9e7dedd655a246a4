"""Chunks of HDF5 files that unpack to far more than they are to hold.

HDF5 unpacks such a chunk as a whole, fills the memory with it, and takes the beginning.
"""

import threading
import zlib
from itertools import product
from math import prod
from typing import Any

from napari_synapse_cl.errors import JobError

DEFLATE = 1
"""HDF5's number for gzip, which makes at most 1032 bytes of one."""
DEFLATE_RATIO = 1032
HARMLESS_BYTES = 2**28
HEAD_BYTES = 2**16
REMEMBERED = 2**20
"""How many chunks are remembered to be sound."""


class SoundChunks:
    """Checks chunks before they are read.

    Parameters
    ----------
    dataset
        Of h5py.
    """

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset
        made = dataset.id.get_create_plist()
        filters = [made.get_filter(i)[0] for i in range(made.get_nfilters())]
        self._is_deflated = filters[-1:] == [DEFLATE]
        self._sound: set[tuple[int, ...]] = set()
        self._lock = threading.Lock()
        self._n_bytes = prod(dataset.chunks or ()) * dataset.dtype.itemsize

    def check(self, key: tuple[Any, ...]) -> None:
        """Check the chunks that a region touches.

        Parameters
        ----------
        key
            Slices and integers along the axes of the dataset.

        Raises
        ------
        JobError
            If one unpacks to far more than it is to hold.
        """
        if not self._is_deflated:
            return
        ranges = []
        for along, step in zip(key, self._dataset.chunks, strict=True):
            start, stop = (
                (along.start, along.stop) if isinstance(along, slice) else (along, along + 1)
            )
            ranges.append(range(start // step * step, stop, step))
        for place in product(*ranges):
            if place not in self._sound:
                self._check_one(place)
                with self._lock:
                    if len(self._sound) < REMEMBERED:
                        self._sound.add(place)

    def _check_one(self, place: tuple[int, ...]) -> None:
        stored = self._dataset.id.get_chunk_info_by_coord(place).size
        if not stored or stored * DEFLATE_RATIO <= max(HARMLESS_BYTES, self._n_bytes):
            return
        is_sound = stored <= 2 * self._n_bytes + HEAD_BYTES
        if is_sound:
            mask, packed = self._dataset.id.read_direct_chunk(place)
            limit = self._n_bytes + 1
            try:
                head = zlib.decompressobj().decompress(packed[:HEAD_BYTES], limit)
            except zlib.error:
                # HDF5 says what is wrong.
                return
            is_sound = bool(mask) or len(head) < limit
        if not is_sound:
            raise JobError(
                f"{self._dataset.file.filename}{self._dataset.name} is damaged: its chunk at "
                f"{', '.join(map(str, place))} unpacks to far more than the {self._n_bytes:,} "
                "bytes of a chunk"
            )

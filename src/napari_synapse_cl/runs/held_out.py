"""What the network makes of the synapses that are held out, as the newest epoch of a run left it.

It is a file of the run, so whoever watches a training, in its process or from elsewhere, sees its
features take shape.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_synapse_cl.errors import InputError, reason
from napari_synapse_cl.system.files import check_unpacked, replacing


@dataclass(frozen=True)
class HeldOut:
    """Features of N held-out synapses after an epoch."""

    epoch: int
    step: int
    """After which they were made, counted from 1."""
    synapses: np.ndarray
    """``(N,)`` int64, which crop of the training each is of, counted from 0."""
    features: np.ndarray
    """``(N, C)`` float32: the last layer's, averaged over crops as they are, without a view."""
    labels: np.ndarray
    """``(N,)`` strings, empty where no label is known."""

    def write(self, file: Path) -> None:
        """Write them, whole or not at all.

        Raises
        ------
        OSError
            If they cannot be written.
        """
        with replacing(file) as temporary:
            np.savez(temporary, **{**vars(self), "labels": self.labels.astype(np.str_)})

    @classmethod
    def read(cls, file: Path) -> "HeldOut | None":
        """Return what such a file holds, None where there is none.

        Raises
        ------
        InputError
            If it cannot be read, or holds something else.
        """
        try:
            check_unpacked(file)
            with np.load(file, allow_pickle=False) as found:
                arrays: dict[str, Any] = {name: found[name] for name in cls.__annotations__}
        except FileNotFoundError:
            return None
        # What is damaged fails in many ways within NumPy and zipfile.
        except Exception as error:
            raise InputError(f"{file} cannot be read: {reason(error)}") from None
        synapses, features, labels = arrays["synapses"], arrays["features"], arrays["labels"]
        shapes = synapses.shape, labels.shape, features.shape[:1]
        kinds = "".join(array.dtype.kind for array in (synapses, features, labels))
        counts = arrays["epoch"], arrays["step"]
        is_sound = features.ndim == 2 and len(set(shapes)) == 1 and kinds == "ifU"
        if not is_sound or any(n.shape != () or n.dtype.kind != "i" for n in counts):
            raise InputError(f"{file} holds no features of held-out synapses")
        return cls(int(counts[0]), int(counts[1]), synapses, features, labels)


def forget_after(file: Path, step: int) -> None:
    """Remove the file of an epoch whose steps are taken again, and one that is damaged.

    Raises
    ------
    OSError
        If it cannot be removed.
    """
    try:
        found = HeldOut.read(file)
    except InputError:
        found = None
    if os.path.lexists(file) and (found is None or found.step > step):
        file.unlink()

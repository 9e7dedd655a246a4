"""Features on the disk while they are extracted: others can look, and memory stays free."""

from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from napari_synapse_cl.errors import JobError, reason
from napari_synapse_cl.files import create_array


class GrowingArray:
    """A memory-mapped ``.npy`` file whose rows are written one batch after another.

    Used as a context manager; the file is removed at the end unless it was kept.

    Parameters
    ----------
    path
        The file.
    shape
        ``(M, …)``, of float32.
    blank
        Whether rows are NaN from the start; else those not written have to be blanked.

    Raises
    ------
    JobError
        If the disk has no room for it.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], *, blank: bool) -> None:
        self.path = path
        try:
            self.values: np.ndarray = create_array(path, shape, np.dtype(np.float32))
        except OSError as error:
            path.unlink(missing_ok=True)
            gib = 4 * np.prod([float(n) for n in shape]) / 2**30
            raise JobError(
                f"cannot write the {gib:.2g} GiB of features to {path.parent}: {reason(error)}"
            ) from error
        if blank:
            self.values[:] = np.nan

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # Windows removes no file that is mapped.
        self.values = np.empty(0, np.float32)
        self.path.unlink(missing_ok=True)

    def keep_as(self, target: Path) -> None:
        """Give the file its final name, in one step."""
        assert isinstance(self.values, np.memmap)
        self.values.flush()
        self.values = np.empty(0, np.float32)
        self.path.replace(target)

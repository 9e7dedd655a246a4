"""Read the crops that come next while those before them are computed with."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager

import numpy as np
from torch import Tensor


class Prefetching:
    """Reads in a thread of its own what is told to come next, and holds no more than that.

    Only one thread reads at a time. What goes wrong there is raised where the crops are asked for.

    Parameters
    ----------
    read
        Returns the crops of ``(n,)`` synapses.
    """

    def __init__(self, read: Callable[[np.ndarray], Tensor]) -> None:
        self._read = read
        self._coming: Iterator[np.ndarray] = iter(())
        self._pool: ThreadPoolExecutor | None = None
        self._next: tuple[np.ndarray, Future[Tensor]] | None = None

    @contextmanager
    def following(self, coming: Iterator[np.ndarray]) -> Iterator[None]:
        """Read ahead within this context; at its end a read that is under way is waited for.

        Parameters
        ----------
        coming
            The synapses of each read, in order; asked for one read ahead. Reads that come between
            are no harm: what was read ahead is held until its turn.
        """
        with ThreadPoolExecutor(1, "prefetching") as self._pool:
            try:
                self.expect(coming)
                yield
            finally:
                self.expect(iter(()))
                self._pool = None

    def expect(self, coming: Iterator[np.ndarray]) -> None:
        """Forget what was read ahead, and follow another order from here on."""
        if self._next is not None:
            wait([self._next[1]])
        self._coming = coming
        self._begin()

    def read(self, synapses: np.ndarray) -> Tensor:
        """Return the crops of some synapses."""
        if self._next is None:
            return self._read(synapses)
        expected, future = self._next
        wait([future])
        if not np.array_equal(expected, synapses):
            return self._read(synapses)
        self._next = None
        crops = future.result()
        self._begin()
        return crops

    def _begin(self) -> None:
        synapses = next(self._coming, None)
        self._next = None
        if synapses is not None and self._pool is not None:
            self._next = synapses, self._pool.submit(self._read, synapses)

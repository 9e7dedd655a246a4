"""Views of synapses, as they go into a network; the crops of the next ones are read meanwhile."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager

import numpy as np
import torch
from torch import Tensor

from napari_synapse_cl.augmentations import composition
from napari_synapse_cl.augmentations.resampling import centre_crop
from napari_synapse_cl.config import Config
from napari_synapse_cl.data.crops.sources import CropSource
from napari_synapse_cl.data.grey_spread import spreads_of
from napari_synapse_cl.training.partners import Partners

VALIDATION_EPOCH = 0
"""The epoch number whose augmentations the validation sees every time."""


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


class Views:
    """Makes views of crops on a device; the same of the same synapses and epoch every time.

    Parameters
    ----------
    crops
        Crops with the context that the augmentations need.
    config
        Size of the views, augmentations and their seed.
    device
        Where they are made.
    voxel_size
        Voxel size along z, y, x, in any unit.
    partners
        Which synapse the second view of each is of, in a training; None for its own.
    """

    def __init__(
        self,
        crops: CropSource,
        config: Config,
        device: torch.device,
        voxel_size: tuple[float, float, float],
        partners: Partners | None = None,
    ) -> None:
        self._partners = partners
        self._crops = crops
        self._config = config
        self._device = device
        self._voxel_size = voxel_size
        self._prefetching = Prefetching(self._read_to_memory)

    def reading_ahead(self, coming: Iterator[np.ndarray]) -> AbstractContextManager[None]:
        """Within this context, read crops before they are asked for.

        Parameters
        ----------
        coming
            The synapses whose views will be asked for, in order.
        """
        return self._prefetching.following(coming)

    def expect(self, coming: Iterator[np.ndarray]) -> None:
        """Read ahead in another order from here on."""
        self._prefetching.expect(coming)

    def shown(self, synapses: np.ndarray, epoch: int) -> np.ndarray:
        """Return ``(n, 2)``, which synapse each view of n pairs is of.

        In the validation both are of the synapse itself.
        """
        second = synapses
        if self._partners is not None and epoch != VALIDATION_EPOCH:
            second = self._partners.of(synapses, epoch)
        return np.stack([synapses, second], axis=1)

    def read_for(self, synapses: np.ndarray, epoch: int) -> np.ndarray:
        """Return the synapses whose crops :meth:`augmented` reads: these, then their partners."""
        first, second = self.shown(synapses, epoch).T
        return np.concatenate([first, second[second != first]])

    def augmented(self, synapses: np.ndarray, epoch: int) -> Tensor:
        """Return ``(2n, 1, D, H, W)``, two views of n synapses, all first before all second."""
        config, crops = self._config, self._read(self.read_for(synapses, epoch))
        positions = self._crops.positions
        spreads = spreads_of(config, positions, synapses)
        rows = positions.rows[synapses]
        pair = composition.draw_pair(config, config.seed, epoch, rows, spreads)
        first, second = self.shown(synapses, epoch).T
        places = np.arange(len(synapses))
        is_other = second != first
        places[is_other] = np.arange(len(synapses), len(crops))
        views = [
            composition.apply(of_view, view, config.crop_size, self._voxel_size)
            for of_view, view in zip(
                (crops[: len(synapses)], crops[places] if is_other.any() else crops),
                pair,
                strict=True,
            )
        ]
        return torch.cat(views).contiguous(memory_format=torch.channels_last_3d)

    def plain(self, synapses: np.ndarray) -> Tensor:
        """Return ``(n, 1, D, H, W)``, the crops as they are."""
        crops = centre_crop(self._read(synapses), self._config.crop_size)
        return crops.contiguous(memory_format=torch.channels_last_3d)

    def _read(self, synapses: np.ndarray) -> Tensor:
        crops = self._prefetching.read(synapses)
        return crops.to(self._device, non_blocking=self._device.type == "cuda")

    def _read_to_memory(self, synapses: np.ndarray) -> Tensor:
        crops = torch.from_numpy(self._crops.read(synapses.tolist()))
        # From pinned memory a GPU takes them without being waited for.
        return crops.pin_memory() if self._device.type == "cuda" else crops

"""A Dask cluster to do shards: processes of this computer, or one that is running."""

import logging
from contextlib import ExitStack, suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING

from napari_synapse_cl.data.arrays import first_line
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.system.devices import choose_device, choose_precision

if TYPE_CHECKING:
    from distributed import Client

TRIES = 3
"""How often a shard is tried that fails, or takes its worker with it."""
CONNECT_SECONDS = 30
FIRST_LIMIT = 3600.0
"""Seconds that the first worker may take to come, and the first shard to be done."""


def check_dask() -> None:
    """Check that Dask's scheduler is installed.

    Raises
    ------
    InputError
        If it is not.
    """
    if find_spec("distributed") is None:
        raise InputError(
            "more than one worker needs Dask's scheduler, which is not installed: pip install "
            '"napari-synapse-cl[cluster]", or extract as jobs of an array with --shard'
        )


class Cluster:
    """A Dask cluster, as a context manager.

    Parameters
    ----------
    n_workers
        Processes of this computer, which are started; 0 for those of `scheduler`.
    scheduler
        Address of a scheduler that is running.

    Raises
    ------
    InputError
        If there is none.
    """

    def __init__(self, n_workers: int, scheduler: str | None) -> None:
        self._n_workers, self._scheduler = n_workers, scheduler
        self._stack = ExitStack()

    def __enter__(self) -> "Client":
        import dask
        from distributed import Client, LocalCluster

        # What it says of workers that die is said here, in a line.
        logging.getLogger("distributed").setLevel(logging.CRITICAL)
        if self._scheduler is not None:
            try:
                return self._stack.enter_context(Client(self._scheduler, timeout=CONNECT_SECONDS))
            except (OSError, TimeoutError, ValueError) as error:
                raise InputError(
                    f"there is no scheduler at {self._scheduler}: {first_line(error)}"
                ) from None
        self._stack.enter_context(
            dask.config.set(
                {
                    "distributed.scheduler.allowed-failures": TRIES - 1,
                    # No shard waits at a worker, which would be blamed for its death.
                    "distributed.scheduler.worker-saturation": 1.0,
                    "distributed.admin.tick.limit": "1h",
                }
            )
        )
        cluster = self._stack.enter_context(
            LocalCluster(
                n_workers=self._n_workers,
                threads_per_worker=1,
                processes=True,
                # The system says when memory runs out; a share each would end what needs more.
                memory_limit=0,
                dashboard_address=":0" if find_spec("bokeh") else None,
                silence_logs=logging.CRITICAL,
            )
        )
        return self._stack.enter_context(Client(cluster))

    def __exit__(self, *_: object) -> None:
        # A scheduler that has died cannot be taken leave of.
        with suppress(OSError, TimeoutError, RuntimeError):
            self._stack.close()


def device_of_workers(client: "Client", device: str, precision: str) -> tuple[str, str]:
    """Return type of device and precision of the workers, by asking the first that is there."""
    # Asked before any is there: clusters that grow start workers when there is something to do.
    asked = client.submit(_device, device, precision, pure=False)
    try:
        kind, chosen = asked.result(timeout=FIRST_LIMIT)
    except TimeoutError:
        raise InputError("no worker has come to the scheduler within an hour") from None
    return str(kind), str(chosen)


def _device(device: str, precision: str) -> tuple[str, str]:
    chosen = choose_device(device)
    return chosen.type, choose_precision(precision, chosen)

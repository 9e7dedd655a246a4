"""Fetch the checkpoints that settings name by a URL, and tell how far that is."""

from collections.abc import Generator
from queue import SimpleQueue
from threading import Thread

from napari_synapse_cl.config import Config, is_url
from napari_synapse_cl.control import Control
from napari_synapse_cl.downloads import is_cached, local_file
from napari_synapse_cl.events import Event, Progress

MIB = 2**20


def fetch_checkpoints(config: Config, control: Control) -> Generator[Event, None, None]:
    """Download what is not there yet; what needs a checkpoint then finds it.

    Raises
    ------
    InputError
        If it cannot be had.
    """
    for location in (config.pretrained, config.checkpoint):
        if location is not None and is_url(location) and not is_cached(location):
            yield from _fetch(location, control)


def _fetch(location: str, control: Control) -> Generator[Event, None, None]:
    told: SimpleQueue[tuple[int, int | None] | Exception | None] = SimpleQueue()

    def work() -> None:
        try:
            local_file(location, lambda done, total: told.put((done, total)))
        # Raised again where it is heard.
        except Exception as error:
            told.put(error)
        else:
            told.put(None)

    Thread(target=work, daemon=True).start()
    while (news := told.get()) is not None:
        if isinstance(news, Exception):
            raise news
        done, total = news
        mib = -(-done // MIB)
        yield Progress("downloading the network", mib, -(-total // MIB) if total else mib, "MiB")
        if control.stopping:
            return

"""Train and extract, whole: what the command line runs and the widgets start."""

from collections.abc import Generator

from napari_synapse_cl.config import Config
from napari_synapse_cl.control import Control
from napari_synapse_cl.events import Event
from napari_synapse_cl.pipeline.comparison import compare_layers
from napari_synapse_cl.pipeline.dense import extract_dense
from napari_synapse_cl.pipeline.extraction import extract_alone
from napari_synapse_cl.pipeline.fetching import fetch_checkpoints
from napari_synapse_cl.pipeline.training import train_and_extract


def run(config: Config, control: Control | None = None) -> Generator[Event, None, None]:
    """Do what the settings ask for: train and extract, or one of them.

    Everything that can be checked is checked before anything is written.

    Parameters
    ----------
    config
        The settings.
    control
        Pauses or ends the job from outside.

    Yields
    ------
    Event
        What happens.

    Raises
    ------
    InputError
        If something that was given cannot be used; nothing has been written then.
    JobError
        If the job cannot go on; what was reached is kept.
    """
    control = control or Control()
    yield from fetch_checkpoints(config, control)
    if control.stopping:
        return
    if config.dense:
        yield from extract_dense(config, control)
    elif config.compare_layers:
        yield from compare_layers(config, control)
    elif config.extract_only:
        yield from extract_alone(config, control)
    else:
        yield from train_and_extract(config, control)

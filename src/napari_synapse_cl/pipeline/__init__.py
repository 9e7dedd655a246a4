"""Train and extract, whole: what the command line runs and the widgets start."""

from collections.abc import Callable, Generator, Iterator

from napari_synapse_cl.config import Config
from napari_synapse_cl.control import Control
from napari_synapse_cl.distributed import Ranks, joined
from napari_synapse_cl.events import Event
from napari_synapse_cl.pipeline.comparison import compare_layers
from napari_synapse_cl.pipeline.dense import extract_dense
from napari_synapse_cl.pipeline.exporting import export_alone
from napari_synapse_cl.pipeline.extraction import extract_alone
from napari_synapse_cl.pipeline.fetching import fetch_checkpoints
from napari_synapse_cl.pipeline.steps import stopped
from napari_synapse_cl.pipeline.training import train_and_extract
from napari_synapse_cl.training.runs import default_folder


def run(config: Config, control: Control | None = None) -> Generator[Event, None, None]:
    """Do what the settings ask for: train and extract, one of them, or export a network.

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
    with joined() as ranks:
        yield from _run(config, control, ranks)


def _without_help(config: Config) -> Callable[[Config, Control], Iterator[Event]] | None:
    """Return the job, if it is one that several processes have nothing to share of."""
    if config.export_only:
        return export_alone
    if config.dense:
        return extract_dense
    return compare_layers if config.compare_layers else None


def _run(config: Config, control: Control, ranks: Ranks) -> Iterator[Event]:
    if ranks.is_main:
        yield from fetch_checkpoints(config, control)
    if stopped(control, ranks):
        return
    if ranks.size > 1 and config.output is None:
        config = config.model_copy(update={"output": ranks.agree(default_folder())})
    alone = _without_help(config)
    if alone is not None:
        if ranks.is_main:
            yield from alone(config, control)
        return
    together = extract_alone if config.extract_only else train_and_extract
    yield from together(config, control, ranks)

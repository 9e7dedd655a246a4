"""Train and extract, whole: what the command line runs and the widgets start."""

from collections.abc import Callable, Collection, Generator, Iterator
from contextlib import closing, contextmanager
from errno import ENAMETOOLONG
from pathlib import Path

from napari_synapse_cl.config import Config, settings_without_effect
from napari_synapse_cl.errors import InputError, JobError, is_of_disk, reason
from napari_synapse_cl.pipeline.steps import fetch_checkpoints, held, stopped
from napari_synapse_cl.pipeline.training_preparation import check_output
from napari_synapse_cl.runs.events import Control, Event, Message
from napari_synapse_cl.runs.folder import RunFolder
from napari_synapse_cl.system.distributed import Ranks, joined
from napari_synapse_cl.system.folder_lock import check_folder


def run(
    config: Config, control: Control | None = None, told: Collection[str] = ()
) -> Generator[Event, None, None]:
    """Do what the settings ask for: train and extract, one of them, or export a network.

    Everything that can be checked is checked before anything is written.

    Parameters
    ----------
    control
        Pauses or ends the job from outside.
    told
        Names of settings that a person has given, whatever their values are.

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
    try:
        with joined() as ranks:
            yield from _run(config, control, ranks, told)
    # What writes to one file says which; this is for all that nobody thought of.
    except (OSError, RuntimeError) as error:
        if not is_of_disk(error):
            raise
        file = getattr(error, "filename", None)
        where = f" at {file}" if file else ""
        # Nobody but who gives the settings makes a name too long.
        kind = InputError if getattr(error, "errno", None) == ENAMETOOLONG else JobError
        raise kind(f"the job cannot go on{where}: {reason(error)}") from error


def _without_help(config: Config) -> Callable[[Config, Control], Iterator[Event]] | None:
    """Return the job, if it is one that several processes have nothing to share of."""
    # Each imports what it needs alone: Zarr, scikit-learn or ONNX.
    if config.report:
        from napari_synapse_cl.pipeline.report.job import report

        return report
    if config.explore:
        from napari_synapse_cl.pipeline.exploring import explore

        return explore
    if config.export_only:
        from napari_synapse_cl.pipeline.exporting import export_alone

        return export_alone
    if _is_in_shards(config):
        from napari_synapse_cl.pipeline.shards.job import extract_in_shards

        return extract_in_shards
    if config.dense:
        from napari_synapse_cl.pipeline.maps import extract_dense

        return extract_dense
    if config.compare_layers:
        from napari_synapse_cl.pipeline.comparison import compare_layers

        return compare_layers
    return None


def _is_in_shards(config: Config) -> bool:
    return config.extract_only and bool(config.workers or config.scheduler or config.shard)


def _shared(config: Config) -> Callable[[Config, Control, Ranks], Iterator[Event]]:
    """Return the job that several processes may share."""
    if config.extract_only:
        from napari_synapse_cl.pipeline.extraction import extract_alone

        return extract_alone
    from napari_synapse_cl.pipeline.training import train_and_extract

    return train_and_extract


def _run(config: Config, control: Control, ranks: Ranks, told: Collection[str]) -> Iterator[Event]:
    if ranks.is_main:
        yield from fetch_checkpoints(config, control)
    if stopped(control, ranks):
        return
    alone = _without_help(config)
    if config.output is not None and alone is None and not config.extract_only:
        # Before it is held, so that a folder in which nothing is to begin stays as it is.
        check_output(RunFolder(config.output), config)
    # Jobs of an array share their folder, and agree in it.
    shared = _is_in_shards(config) and config.shard is not None
    with _shared_folder(config) if shared else held(config.output, ranks) as (folder, warnings):
        config = config.model_copy(update={"output": folder})
        events = _events(config, control, ranks, alone)
        with closing(events):
            first = next(events, None)
            # What is refused is refused in one line, so these wait for what is not.
            notes = (*settings_without_effect(config, told), *warnings) if ranks.is_main else ()
            for text in notes:
                yield Message(text, "warning")
            if first is not None:
                yield first
            yield from events


@contextmanager
def _shared_folder(config: Config) -> Iterator[tuple[Path, list[str]]]:
    """Yield the folder that the jobs of an array share, as :func:`held` does, and hold nothing."""
    if config.output is None:
        raise InputError("shard needs the output folder that all jobs share: name it with --output")
    check_folder(config.output)
    yield config.output, []


def _events(
    config: Config,
    control: Control,
    ranks: Ranks,
    alone: Callable[[Config, Control], Iterator[Event]] | None,
) -> Generator[Event, None, None]:
    if alone is None:
        yield from _shared(config)(config, control, ranks)
    # Ranks that are jobs of an array know nothing of each other.
    elif ranks.is_main or (_is_in_shards(config) and config.shard is not None):
        yield from alone(config, control)

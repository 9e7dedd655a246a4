"""Ask what is in checkpoints and runs, which only a process with PyTorch can read."""

from pathlib import Path
from typing import Any, ClassVar

from napari_synapse_cl.config import Config, absolute, is_url
from napari_synapse_cl.errors import InputError, JobError
from napari_synapse_cl.models.architecture import NetworkInfo
from napari_synapse_cl.system.words import VoxelSize
from napari_synapse_cl.widgets.jobs.child import Question
from napari_synapse_cl.widgets.jobs.inputs import HowToCut


class NetworkReader:
    """Asks another process what is in checkpoints and runs; it takes seconds.

    What is known of a file is not asked for again until the file has changed.
    """

    _known: ClassVar[dict[tuple[Any, ...], NetworkInfo]] = {}

    def __init__(self) -> None:
        self._question = Question("network")

    def read(self, checkpoint: str | Path, which: str) -> NetworkInfo:
        """Return what is in a checkpoint or run.

        Raises
        ------
        InputError
            If it holds no such network.
        JobError
            If the process that was asked has crashed, or was ended.
        """
        key = _identity(checkpoint, which)
        info = self._known.get(key)
        if info is None:
            answer = self._question.ask(absolute(str(checkpoint)), which)
            info = self._known[key] = NetworkInfo.from_dict(answer)
        return info

    def end(self) -> None:
        """End the process, if it runs."""
        self._question.end()


def _identity(checkpoint: str | Path, which: str) -> tuple[Any, ...]:
    """Return what changes when there may be another network."""
    if is_url(str(checkpoint)):
        return (str(checkpoint), which)
    stats, checkpoint = [], Path(checkpoint)
    for path in (checkpoint, checkpoint / "checkpoints"):
        try:
            stat = path.stat()
        except OSError:
            continue
        stats += [stat.st_mtime_ns, stat.st_size]
    return (str(checkpoint.absolute()), which, *stats)


class NetworkSizes:
    """Knows the voxel sizes of networks in files; to learn of one takes seconds, in a worker."""

    def __init__(self) -> None:
        self._reader = NetworkReader()
        self._unusable: set[tuple[str, int]] = set()

    def of(self, pretrained: str | None) -> VoxelSize | None:
        """Return the voxel size along z, y, x in nm, None where it is not known.

        Nothing is downloaded for it, and what is wrong with a file others say.

        Parameters
        ----------
        pretrained
            The setting of this name.
        """
        if pretrained is None or is_url(pretrained):
            return None
        try:
            key = (pretrained, Path(pretrained).stat().st_mtime_ns)
        except OSError:
            return None
        if key in self._unusable:
            return None
        try:
            return self._reader.read(pretrained, "trained").voxel_size
        except (InputError, JobError):
            self._unusable.add(key)
            return None

    def end(self) -> None:
        """End the process that reads, if it runs."""
        self._reader.end()


def how_to_cut(config: Config) -> HowToCut:
    """Return how crops are cut for a training, as the command line would; for a worker."""
    if config.pretrained is None:
        return HowToCut(config)
    return HowToCut(config, NetworkReader().read(config.pretrained, "trained").voxel_size)

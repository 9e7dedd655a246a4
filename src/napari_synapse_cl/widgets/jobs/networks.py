"""What a form can say of a network that is to be read.

Run as a module, with a checkpoint or run folder and which of its networks is meant, this says what
is in it.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from napari_synapse_cl.config import Config, absolute, is_url
from napari_synapse_cl.data.parts import VoxelSize
from napari_synapse_cl.errors import InputError, JobError
from napari_synapse_cl.models.architecture import Architecture
from napari_synapse_cl.system.downloads import local_file
from napari_synapse_cl.widgets.jobs.child import Question
from napari_synapse_cl.widgets.jobs.inputs import HowToCut


@dataclass(frozen=True)
class NetworkInfo:
    """What a form can say of a network.

    Attributes
    ----------
    architecture
        Its layers follow from it.
    crop_size
        Size in voxels of the crops it was trained on, along z, y, x, where that is known.
    voxel_size
        Size in nm of the voxels it was trained on, along z, y, x, where that is known.
    crop_settings
        What crops were in its training, by the names of the settings, where that is known.
    networks
        Which networks there are to choose from.
    """

    architecture: Architecture
    crop_size: tuple[int, int, int] | None
    voxel_size: tuple[float, float, float] | None
    crop_settings: dict[str, Any]
    networks: tuple[str, ...]

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Self:
        """Return what :meth:`as_dict` described."""
        size, voxel_size = content["crop_size"], content["voxel_size"]
        return cls(
            Architecture.from_dict(content["architecture"]),
            None if size is None else (size[0], size[1], size[2]),
            None if voxel_size is None else (voxel_size[0], voxel_size[1], voxel_size[2]),
            content["crop_settings"],
            tuple(content["networks"]),
        )

    def as_dict(self) -> dict[str, Any]:
        """Return it in plain types."""
        return {
            "architecture": self.architecture.as_dict(),
            "crop_size": self.crop_size,
            "voxel_size": self.voxel_size,
            "crop_settings": self.crop_settings,
            "networks": self.networks,
        }


class NetworkReader:
    """Asks another process what is in checkpoints and runs; it takes seconds.

    What is known of a file is not asked for again until the file has changed.
    """

    _known: ClassVar[dict[tuple[Any, ...], NetworkInfo]] = {}

    def __init__(self) -> None:
        self._question = Question(__name__)

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


def main(location: str, which: Any) -> None:
    """Write what is in a checkpoint, or what is wrong with it, to standard output as JSON."""
    from napari_synapse_cl.pipeline.networks import open_network, run_of

    networks = ["trained"]
    try:
        checkpoint = local_file(location)
        run = run_of(checkpoint)
        if run is not None:
            networks += ["best"] if run.best_checkpoint.exists() else []
            networks += ["start"]
        opened = open_network(checkpoint, which)
    except InputError as error:
        answer: dict[str, Any] = {"error": str(error)}
    else:
        answer = NetworkInfo(
            opened.architecture,
            opened.crop_size,
            opened.voxel_size,
            opened.crop_settings,
            tuple(networks),
        ).as_dict()
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])


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

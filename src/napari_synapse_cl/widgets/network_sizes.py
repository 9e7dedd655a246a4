"""The voxel size at which a pretrained network sees crops."""

from pathlib import Path

from napari_synapse_cl.config import Config, is_url
from napari_synapse_cl.data.parts import VoxelSize
from napari_synapse_cl.errors import InputError, JobError
from napari_synapse_cl.widgets.inputs import HowToCut
from napari_synapse_cl.widgets.network_info import NetworkReader


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

"""What can be said of a network in a file without PyTorch, once it has been read."""

from dataclasses import dataclass
from typing import Any, Self

from napari_synapse_cl.models.architecture import Architecture
from napari_synapse_cl.system.words import Triple, VoxelSize


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
    crop_size: Triple | None
    voxel_size: VoxelSize | None
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

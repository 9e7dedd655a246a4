"""What is looked at before an extraction begins: nothing is written for one that cannot."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from napari_synapse_cl.config import Config, CropConfig, DeviceConfig, ExtractionConfig
from napari_synapse_cl.data.crops.sources import CropSource
from napari_synapse_cl.data.dataset import Dataset
from napari_synapse_cl.data.grey_spread import with_grey_spread
from napari_synapse_cl.data.opening import open_dataset
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.features.descriptors import descriptor_record
from napari_synapse_cl.features.extraction import Descriptors, Reader, Several
from napari_synapse_cl.features.readout import Readout
from napari_synapse_cl.models.architecture import Architecture, Layer
from napari_synapse_cl.models.vgg3d import Vgg3D
from napari_synapse_cl.pipeline.networks import OpenedNetwork, open_network
from napari_synapse_cl.pipeline.provenance import NetworkOrigin, make_record
from napari_synapse_cl.pipeline.training_preparation import check_extraction, with_what_was_found
from napari_synapse_cl.runs.folder import RunFolder, default_folder
from napari_synapse_cl.system.devices import choose_device, choose_precision
from napari_synapse_cl.system.distributed import ALONE, Ranks
from napari_synapse_cl.system.words import size

DEFAULT_LABEL_COLUMN = "class"
DECISIVE = ("keep", "intensity", "invert", "presynaptic_shift")
"""Settings of crops that change what a network sees throughout."""
SAME_VOXEL_SIZE = 0.1
"""Relative difference of voxel sizes below which a network sees the same."""


@dataclass(frozen=True)
class ExtractionJob:
    """An extraction of the features of synapses that can begin."""

    config: Config
    folder: RunFolder
    dataset: Dataset
    crops: CropSource
    """Crops as large as the network sees them, or larger."""
    network: Vgg3D | None
    """The network, where layers are read."""
    architecture: Architecture | None
    device: torch.device
    precision: str
    origin: NetworkOrigin | None
    warnings: tuple[str, ...] = ()
    """What to tell before it begins."""
    ranks: Ranks = ALONE
    """The processes that extract together."""

    @property
    def layers(self) -> list[Layer]:
        """The layers that are read."""
        if self.architecture is None:
            return []
        return [self.architecture.check_layer(index) for index in self.config.layer_num]

    @property
    def readout(self) -> Readout:
        """What reads them."""
        assert self.network is not None
        return self.readout_of(self.network)

    def readout_of(self, network: Vgg3D, precision: str | None = None) -> Readout:
        """Return what reads the same layers of another network of this architecture."""
        assert self.architecture is not None
        return Readout(
            network,
            self.architecture,
            self.config.layer_num,
            self.config.crop_size,
            pooling=self.config.pooling,
            averaging=self.config.averaging,
            voxel_size=self.dataset.voxel_size,
            device=self.device,
            precision=precision or self.precision,
        )

    @property
    def reader(self) -> Reader:
        """What reads the layers and describes crops, as far as that is wanted."""
        readers: list[Reader] = [self.readout] if self.config.layer_num else []
        if self.config.descriptors:
            known = self.dataset.known_voxel_size
            readers.append(Descriptors(self.config.crop_size, known))
        return Several(readers)

    @property
    def record(self) -> dict[str, Any]:
        """Where the features come from."""
        config, voxel_size = self.config, self.dataset.known_voxel_size
        return {
            **make_record(
                self.origin, self.layers, config, CropConfig, ExtractionConfig, DeviceConfig
            ),
            "pooling": config.pooling,
            **({"descriptors": descriptor_record()} if config.descriptors else {}),
            "crop_size": list(config.crop_size),
            "voxel_size": None if voxel_size is None else list(voxel_size),
            "extent": list(self.dataset.reach(config.crop_size)),
            "volume": self.dataset.name,
            "device": str(self.device),
            "precision": self.precision,
        }

    @property
    def label_column(self) -> str | None:
        """The column of labels, if there is one."""
        if self.config.label_column is not None:
            return self.config.label_column or None
        return DEFAULT_LABEL_COLUMN if DEFAULT_LABEL_COLUMN in self.dataset.table.columns else None

    @property
    def labels(self) -> np.ndarray | None:
        """Label of each synapse inside the volume, a string, empty where it is missing."""
        if self.label_column is None:
            return None
        # scikit-learn takes longer to import than a job should wait to begin.
        from napari_synapse_cl.features.analysis import label_names

        return label_names(self.dataset.table[self.label_column].iloc[self.dataset.positions.rows])


def prepare_extraction(
    config: Config, *, with_context: bool = False, ranks: Ranks = ALONE
) -> ExtractionJob:
    """Check the settings of an extraction from a checkpoint and open what it needs.

    The crop size is that of the training, unless the settings name one.

    Parameters
    ----------
    with_context
        Whether crops are to hold the context that augmented views need.

    Raises
    ------
    InputError
        If something that was given cannot be used.
    """
    opened = None if config.checkpoint is None else open_chosen_network(config)
    warnings: list[str] = []
    if opened is not None:
        config, warnings = _for_network(config, opened)
    dataset = open_dataset(config, None if opened is None else opened.voxel_size)
    config = with_what_was_found(config, dataset)
    check_extraction(None if opened is None else opened.architecture, dataset, config)
    if opened is not None:
        warnings += voxel_size_warnings(opened, dataset.known_voxel_size)
    device = choose_device(config.device)
    shape = config.crop_size
    if with_context:
        config, dataset = with_grey_spread(config, dataset)
        shape = dataset.context(config)
    return ExtractionJob(
        config=config,
        folder=RunFolder(config.output or default_folder()),
        dataset=dataset,
        crops=dataset.crop_source(config, shape),
        network=None if opened is None else opened.network,
        architecture=None if opened is None else opened.architecture,
        device=device,
        precision=reading_precision(config, device, None if opened is None else opened.origin),
        origin=None if opened is None else opened.origin,
        warnings=tuple(warnings),
    )


def reading_precision(config: Config, device: torch.device, origin: NetworkOrigin | None) -> str:
    """Return how precisely the layers of a network are computed that are read."""
    return choose_precision(precision_to_read(config, origin), device)


def precision_to_read(config: Config, origin: NetworkOrigin | None) -> str:
    """Return what is asked of a device, that of the settings or float32.

    Late layers of a network with random weights put out nearly the same for all crops, and what
    differs is lost in the rounding of bfloat16, which is not taken there unless it is asked for.
    """
    is_random = origin is not None and origin.seed is not None
    if not config.layer_num or (config.precision == "auto" and is_random):
        return "float32"
    return config.precision


def _for_network(config: Config, opened: OpenedNetwork) -> tuple[Config, list[str]]:
    """Return settings with which crops are as a network knows them, and what to warn of."""
    warnings = []
    if opened.crop_size and "crop_size" not in config.model_fields_set:
        config = config.model_copy(update={"crop_size": opened.crop_size})
    elif opened.crop_size not in (None, config.crop_size):
        warnings.append(
            f"the network was trained on crops of {size(opened.crop_size)} voxels and sees crops "
            f"of {size(config.crop_size)}: its features need not mean the same"
        )
    warnings += _crop_warnings(config, opened)
    return seen_as_in_training(config, opened), warnings


def seen_as_in_training(config: Config, opened: OpenedNetwork) -> Config:
    """Return settings with which crops are made as in the network's training, where none are set.

    Crops that were cut already are what they are.
    """
    if config.crops is not None:
        return config
    settings = config.model_dump(exclude_unset=True)
    return Config.from_values({**opened.crop_settings, **settings})


def _crop_warnings(config: Config, opened: OpenedNetwork) -> list[str]:
    """Warn of crops that are made otherwise than in the network's training."""
    return [
        f"the network was trained with {name} {trained} and sees {getattr(config, name)}: its "
        "features need not mean the same"
        for name, trained in opened.crop_settings.items()
        if name in DECISIVE and name in config.model_fields_set and getattr(config, name) != trained
    ]


def open_chosen_network(config: Config) -> OpenedNetwork:
    """Open the network that the settings name."""
    if config.checkpoint is None:
        raise InputError("extract_only needs a checkpoint")
    return open_network(config.checkpoint, config.network)


def voxel_size_warnings(opened: OpenedNetwork, voxel_size: tuple[float, ...] | None) -> list[str]:
    """Warn of voxels of another size than those the network was trained on."""
    trained = opened.voxel_size
    if trained is None or voxel_size is None:
        return []
    if np.allclose(trained, voxel_size, rtol=SAME_VOXEL_SIZE):
        return []
    return [
        f"the network was trained on voxels of {size(trained)} nm and sees voxels of "
        f"{size(voxel_size)} nm: the same structure has another size to it"
    ]

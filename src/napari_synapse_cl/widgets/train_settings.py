"""Which settings the form of a training shows, and where."""

from napari_synapse_cl.config import AugmentationConfig, ModelConfig
from napari_synapse_cl.widgets import crop_settings

ESSENTIAL = ("crop_size", "batch_size", "num_epochs", "learning_rate", "pretrained")
GROUPS = {
    "Data": ("voxel_size", "validation_fraction"),
    **crop_settings.GROUPS,
    "Model": tuple(name for name in ModelConfig.model_fields if name != "pretrained"),
    "Training": ("temperature", "weight_decay", "warmup_fraction", "seed", "device", "precision"),
    "Augmentation": tuple(AugmentationConfig.model_fields),
    "Output": ("output", "cache_dir", "cache_limit"),
}
PLACEHOLDERS = {
    **crop_settings.PLACEHOLDERS,
    "voxel_size": "that of the layer",
    "output": "a new folder in ~/synapse_cl_runs",
    "pretrained": "none: random weights",
    "cache_dir": "the run folder",
}
OF_ONE_RUN = {"output", "voxel_size"}
"""Settings that the next run should not have, nor another volume."""

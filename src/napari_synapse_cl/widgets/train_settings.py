"""Which settings the form of a training shows, and where."""

from napari_synapse_cl.config import AugmentationConfig, DeviceConfig, ModelConfig
from napari_synapse_cl.widgets import crop_settings

ESSENTIAL = ("crop_size", "batch_size", "num_epochs", "learning_rate", "pretrained")
GROUPS = {
    "Data": ("voxel_size",),
    **crop_settings.GROUPS,
    "Model": tuple(name for name in ModelConfig.model_fields if name != "pretrained"),
    "Objective": ("objective", "temperature", "momentum", "queue_size"),
    "Training": (
        "weight_decay",
        "warmup_fraction",
        "clip_norm",
        "backbone_lr_factor",
        "unfreezing_fraction",
        "seed",
    ),
    "Validation": ("validation_fraction", "label_column", "best_metric", "early_stopping"),
    "Device": tuple(DeviceConfig.model_fields),
    "Augmentation": tuple(AugmentationConfig.model_fields),
    "Output": ("output", "export", "tensorboard", "cache_dir", "cache_limit"),
}
PLACEHOLDERS = {
    **crop_settings.PLACEHOLDERS,
    "voxel_size": "that of the layer",
    "output": "a new folder in ~/synapse_cl_runs",
    "pretrained": "none: random weights",
    "cache_dir": "the run folder",
    "label_column": "none",
    "export": "none, or pt safetensors onnx",
}
OF_ONE_RUN = {"output", "voxel_size", "label_column"}
"""Settings that the next run should not have, nor another volume."""

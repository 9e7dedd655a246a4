"""Every setting, once: its name, default, bounds, unit and meaning.

The command line's flags, the forms in the widgets, the ``config.json`` of a run and the table of
settings in the documentation are all made from the fields of the sections.
"""

from napari_synapse_cl.config.fields import Section, unit_of
from napari_synapse_cl.config.flat import SECTIONS, Config, possible_value, read_settings
from napari_synapse_cl.config.sections import (
    AugmentationConfig,
    DataConfig,
    DeviceConfig,
    ExtractionConfig,
    ModelConfig,
    RunConfig,
    TrainingConfig,
)

__all__ = [
    "SECTIONS",
    "AugmentationConfig",
    "Config",
    "DataConfig",
    "DeviceConfig",
    "ExtractionConfig",
    "ModelConfig",
    "RunConfig",
    "Section",
    "TrainingConfig",
    "possible_value",
    "read_settings",
    "unit_of",
]

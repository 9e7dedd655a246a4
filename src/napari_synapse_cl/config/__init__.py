"""Every setting, once: its name, default, bounds, unit and meaning.

The command line's flags, the forms in the widgets, the ``config.json`` of a run and the table of
settings in the documentation are all made from the fields of the sections.
"""

from napari_synapse_cl.config.data_sections import (
    IN_GREY_UNITS,
    AugmentationConfig,
    CropConfig,
    DataConfig,
    VolumeConfig,
)
from napari_synapse_cl.config.effects import has_effect, settings_without_effect
from napari_synapse_cl.config.fields import Section, absolute, slider_end, unit_of, values_by_role
from napari_synapse_cl.config.flat import (
    ABOUT,
    RECIPES,
    SECTIONS,
    Config,
    about_recipe,
    possible_value,
    presets,
    read_recipe,
    read_settings,
    recipe_settings,
    recipe_values,
)
from napari_synapse_cl.config.sections import (
    ExploreConfig,
    ExtractionConfig,
    ModelConfig,
    RunConfig,
)
from napari_synapse_cl.config.training_sections import DeviceConfig, TrainingConfig
from napari_synapse_cl.system.downloads import is_url

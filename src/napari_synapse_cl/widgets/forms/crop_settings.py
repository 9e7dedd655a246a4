"""The settings that say what crops are, as forms show them, and what is at odds among them."""

from collections.abc import Mapping
from typing import Any

from napari_synapse_cl.config import AugmentationConfig, Config, values_by_role
from napari_synapse_cl.data.crops.recipes import (
    EVERYTHING,
    OBJECT,
    PARTS,
    POSTSYNAPSE,
    PRESETS,
    PRESYNAPSE,
    Recipe,
)
from napari_synapse_cl.data.dataset import SEGMENTATION
from napari_synapse_cl.errors import InputError

CROPS = (
    "network_voxel_size",
    "intensity",
    "percentiles",
    "invert",
    "borders",
    "presynaptic_shift",
)
MASKS = ("keep", "roles", "keep_nearest", "keep_margin", "background", "background_alpha")
GROUPS = {"Crops": CROPS, "Masks": MASKS}
ESSENTIAL_AUGMENTATION = (
    "rotation_range",
    "flip_prob",
    "noise_level",
    "contrast_range",
    "brightness_range",
    "gaussian_blur_sigma",
)
AUGMENTATION = tuple(name for name in AugmentationConfig.model_fields if name != "grey_spread")
"""A spread that stays from one volume to the next would be that of another: it is measured."""
SECTIONS = (
    "section_brightness",
    "section_blur_prob",
    "section_blur_sigma",
    "lost_section_prob",
    "slip_prob",
    "slip_range",
)
MORE_AUGMENTATION = {
    "More augmentation": tuple(
        name for name in AUGMENTATION if name not in (*ESSENTIAL_AUGMENTATION, *SECTIONS)
    ),
    "Section augmentation": SECTIONS,
}
PLACEHOLDERS = {
    "network_voxel_size": "of the network or volume",
    "roles": "such as cleft=7 vesicles=6,8",
}
SHARED = ("crop_size", *CROPS, *MASKS, "seed", *AUGMENTATION)
"""What decides how a pair looks: the preview shows what the training will see."""
RELATED = ("percentiles", "keep", "roles")
"""Settings that :func:`odds` looks at."""
IN_CELLS = {PRESYNAPSE, POSTSYNAPSE, OBJECT}
"""Parts that a segmentation tells."""
WHAT_TO_KEEP = (*PRESETS, OBJECT)
"""To choose from; other parts and label values are typed."""


def label_layers_used(
    keep: str, presynaptic_shift: float, cell_column: str | None = None
) -> set[str]:
    """Return which layers of labels are of use: "labels" of structures, "segmentation" of cells."""
    of_cells = {SEGMENTATION} if cell_column == SEGMENTATION else set()
    both = {"labels", "segmentation"}
    words = [word.strip().lower() for word in keep.split("+")]
    parts = {part for word in words for part in PRESETS.get(word, (word,))}
    # Vesicles can tell which of two cells is the presynaptic one.
    if presynaptic_shift > 0 or (parts & IN_CELLS and EVERYTHING not in parts):
        return both
    return of_cells if EVERYTHING in parts else {"labels"} | of_cells


def label_layers_of(form: Any) -> set[str]:
    """Return :func:`label_layers_used` of what is filled in a form."""
    cells = form.filled_in("cell_column") if "cell_column" in form.names else None
    return label_layers_used(form.filled_in("keep"), form.filled_in("presynaptic_shift"), cells)


def odds(values: Mapping[str, Any]) -> dict[str, str]:
    """Say which settings are at odds with others, or mean nothing, by their names.

    Parameters
    ----------
    values
        Possible values of settings. What is not among them is not looked at.
    """
    found = {}
    if "percentiles" in values:
        try:
            Config.from_values({"percentiles": values["percentiles"]})
        except InputError as error:
            found["percentiles"] = str(error)
    if {"keep", "roles"} <= values.keys():
        # Without any, the volumes may bring their own.
        roles = values_by_role(values["roles"]) or dict.fromkeys(PARTS, (1,))
        try:
            Recipe.parse(values["keep"], roles, nearest=True, grow_nm=0)
        except InputError as error:
            found["keep"] = str(error)
    return found

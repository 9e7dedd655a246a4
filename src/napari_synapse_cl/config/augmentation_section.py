"""The section of augmentation: the settings of all transforms.

Which transform reads which of them is told by its module in
:mod:`~napari_synapse_cl.augmentations`: the first of these is 0 where it is off.
"""

from typing import Literal

from napari_synapse_cl.config.fields import CutoutKinds, Section, Spreads, setting

IN_GREY_UNITS = ("noise_level", "brightness_range", "section_brightness")
"""Settings that count in what grey_unit says."""


class AugmentationConfig(Section):
    """Augmentation."""

    rotation_range: float = setting(
        15.0,
        "Maximum rotation angle, drawn anew for each of the three axes.",
        unit="degrees",
        ge=0,
        le=180,
        slider_end=90,
    )
    flip_prob: float = setting(
        0.5, "Probability of a flip, drawn anew for each of the three axes.", ge=0, le=1
    )
    noise_level: float = setting(
        0.05,
        "Maximum standard deviation of the added Gaussian noise, as a share of the intensity range "
        "[0, 1], or in what grey_unit says.",
        ge=0,
        le=1,
        slider_end=0.25,
    )
    contrast_range: float = setting(
        0.2, "Contrast is multiplied by a factor within 1 ± this.", ge=0, lt=1, slider_end=0.9
    )
    brightness_range: float = setting(
        0.2,
        "Brightness is shifted by up to ± this, on intensities in [0, 1], or in what grey_unit "
        "says.",
        ge=0,
        le=1,
        slider_end=0.5,
    )
    gaussian_blur_sigma: float = setting(
        1.0,
        "Maximum standard deviation of the Gaussian blur.",
        unit="voxels",
        ge=0,
        le=10,
        slider_end=3,
    )
    shift_range: float = setting(
        0.0,
        "Maximum shift of the centre, drawn evenly from a ball of this radius around the synapse.",
        unit="nm",
        ge=0,
        le=10_000,
        slider_end=200,
    )
    uniform_rotation: bool = setting(
        False,
        "Draw the rotation evenly from all that there are, in place of three angles up to "
        "rotation_range. Crops are cut as large as the diagonal of the view.",
    )
    scale_range: float = setting(
        0.0,
        "Tissue is magnified by a factor from 1 / (1 + this) to 1 + this, the same along all axes.",
        ge=0,
        le=1,
        slider_end=0.5,
    )
    gamma_range: float = setting(
        0.0,
        "Intensities in [0, 1] are raised to a power from 1 / (1 + this) to 1 + this.",
        ge=0,
        le=4,
        slider_end=1,
    )
    speckle_level: float = setting(
        0.0,
        "Maximum standard deviation of the multiplicative noise: of the factor, about 1, that each "
        "voxel is multiplied by.",
        ge=0,
        le=1,
        slider_end=0.25,
    )
    cutout_prob: float = setting(
        0.0,
        "Probability that a part of a view is cut out, and becomes as grey as the view is on "
        "average. The centre is always left.",
        ge=0,
        le=1,
    )
    cutout_size: float = setting(
        0.4,
        "Largest side of what is cut out, as a share of that of the view; the smallest is half of "
        "it. With periphery, how much of each side is lost.",
        gt=0,
        le=0.5,
    )
    cutout_kinds: CutoutKinds = setting(
        ("cuboid", "corner", "periphery"),
        "What may be cut out: a cuboid beside the centre, a corner, or the periphery, all but a "
        "box around the centre.",
    )
    section_brightness: float = setting(
        0.0,
        "Each section, a slice along z of the volume, is brighter or darker by up to ± this, on "
        "intensities in [0, 1], or in what grey_unit says.",
        ge=0,
        le=1,
        slider_end=0.25,
    )
    section_blur_prob: float = setting(
        0.0, "Probability that a section is blurred.", ge=0, le=1, slider_end=0.5
    )
    section_blur_sigma: float = setting(
        10.0,
        "Maximum standard deviation, along y and x, of the blur of such sections.",
        unit="nm",
        gt=0,
        le=1_000,
        slider_end=50,
    )
    lost_section_prob: float = setting(
        0.0, "Probability that a section is lost, and black.", ge=0, le=1, slider_end=0.25
    )
    slip_prob: float = setting(
        0.0,
        "Probability that a section has slipped against its neighbours.",
        ge=0,
        le=1,
        slider_end=0.25,
    )
    slip_range: float = setting(
        20.0,
        "Maximum distance by which such sections slip along y and x, in whole voxels.",
        unit="nm",
        gt=0,
        le=1_000,
        slider_end=100,
    )
    grey_unit: Literal["absolute", "spread"] = setting(
        "absolute",
        "What ranges of brightness and noise count in: the intensity range [0, 1] (absolute), or "
        "the spread of the volume's own grey values, so that a recipe means the same on every "
        "tissue. Factors of contrast do so anyway.",
    )
    grey_spread: Spreads = setting(
        (),
        "That spread: the standard deviation of grey values in [0, 1], one for each volume or one "
        "for all. Without it: it is measured when a training begins, on crops of each volume, and "
        "written down with the run (with grey_unit spread).",
    )

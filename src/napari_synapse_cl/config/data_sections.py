"""The sections that say what a run works on, what crops are made of it, and what views of these."""

from pathlib import Path
from typing import Literal

from napari_synapse_cl.config.fields import (
    CutoutKinds,
    Location,
    Roles,
    Section,
    Shape,
    Spreads,
    VoxelSize,
    Words,
    setting,
)


class VolumeConfig(Section):
    """One volume and its synapses."""

    image: Location | None = setting(
        None,
        "EM volume, a path or a URL: TIFF, a folder of slices, .npy, MRC, HDF5, Zarr, OME-Zarr, N5 "
        "or neuroglancer precomputed; what is inside a file or a group is named behind it, as in "
        "volume.h5/raw. With neither image nor synapses, the synthetic sample volume is used.",
    )
    synapses: Path | None = setting(
        None,
        "Synapse positions: a table (CSV, TSV, Excel, Parquet) or neuroglancer annotations (JSON). "
        "How it is read is told.",
    )
    voxel_size: VoxelSize | None = setting(
        None,
        "Voxel size of the image along z, y, x, where its file does not say it or is wrong. "
        "Without any, voxels are taken as cubes.",
        unit="nm",
    )
    position_columns: Words | None = setting(
        None,
        "Columns of the table that hold the positions along z, y and x, in this order, or one "
        "column that holds all three as x, y, z. Without it common names are recognised.",
        min_length=1,
        max_length=3,
    )
    position_unit: Literal["auto", "voxels", "nm", "um"] = setting(
        "auto",
        "Unit of the positions. auto takes that in the columns' names, else voxels.",
    )
    position_voxel_size: VoxelSize | None = setting(
        None,
        "Voxel size along z, y, x that positions count in, where it is not that of the image.",
        unit="nm",
    )
    labels: Location | None = setting(
        None,
        "Label volume of structures, such as clefts, vesicles and mitochondria, over the same "
        "place as the image; for keep.",
    )
    segmentation: Location | None = setting(
        None, "Label volume of cells over the same place as the image; for keep."
    )
    roles: Roles = setting(
        (),
        "Which values in labels are what, as in cleft=7 vesicles=6,8 mitochondria=5; also "
        "presynapse and postsynapse, where labels tells them.",
    )


class DataConfig(VolumeConfig):
    """Data."""

    dataset: Path | None = setting(
        None,
        "Several volumes, in place of an image and synapses: a JSON or YAML file that lists them, "
        "or a folder with raw/NAME, NAME.xlsx and, for masks, seg/NAME.",
    )
    crops: Path | None = setting(
        None,
        "Folder of crops that were cut earlier, in place of an image: a folder crops-… that a run "
        "or the window left behind.",
    )
    cache_dir: Path | None = setting(
        None,
        "Folder for the crops that were cut, shared between runs. Without it they are kept in "
        "the run folder.",
    )
    cache_limit: float = setting(
        16.0,
        "Largest crop cache to write. Above it crops are read from the volume at every step.",
        unit="GiB",
        ge=0,
        le=100_000,
    )


class CropConfig(Section):
    """Crops."""

    crop_size: Shape = setting(
        (80, 80, 80),
        "Size of the crop around each synapse along z, y, x (one number for a cube). Each must "
        "be a multiple of the network's total downsampling, 16 by default.",
        unit="voxels",
    )
    network_voxel_size: VoxelSize | None = setting(
        None,
        "Voxel size along z, y, x at which the network sees crops; images of another size are "
        "resampled. Without it: that of the pretrained network or of the checkpoint where it is "
        "known, else that of the (first) image.",
        unit="nm",
    )
    presynaptic_shift: float = setting(
        0.0,
        "Where crops are centred between the synapse (0) and the position of its presynaptic side "
        "(1), for tables that hold both.",
        ge=0,
        le=1,
    )
    borders: Literal["reflect", "constant", "exclude"] = setting(
        "reflect",
        "What crops hold that reach outside the volume: the tissue reflected, the grey value of "
        "background, or exclude to leave these synapses out.",
    )
    intensity: Literal["range", "percentiles", "crop", "z-score"] = setting(
        "range",
        "What becomes black and white: the range of the image's type (of floating values what "
        "the image holds), percentiles of the image, minimum and maximum of each crop, or its mean "
        "± 3 standard deviations.",
    )
    percentiles: tuple[float, float] = setting(
        (0.5, 99.5), "Lower and upper percentile (with intensity percentiles).", unit="%"
    )
    invert: bool = setting(
        False, "Exchange black and white, for images whose membranes are bright."
    )
    keep: str = setting(
        "everything",
        "What of a crop the network sees: everything, or parts joined by +, of presynapse, "
        "postsynapse, cleft, vesicles, mitochondria, object (what lies under the synapse) and "
        "label values. Needs labels or segmentation.",
    )
    keep_nearest: bool = setting(
        True, "Of structures in labels keep the connected part nearest the synapse alone."
    )
    keep_margin: float = setting(
        0.0, "How far around it is kept too.", unit="nm", ge=0, le=10_000, slider_end=200
    )
    background: float = setting(
        0.5,
        "Grey value, from 0 (black) to 1 (white), of what is not kept, and outside the volume with "
        "borders constant.",
        ge=0,
        le=1,
    )
    background_alpha: float = setting(
        1.0,
        "How far what is not kept is blended into background: 0 leaves it as it is, 1 replaces it.",
        ge=0,
        le=1,
    )


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

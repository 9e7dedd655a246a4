"""The sections of settings that say what a run works on, and what crops are made of it."""

from pathlib import Path
from typing import Literal

from napari_synapse_cl.config.fields import (
    Location,
    Roles,
    Section,
    Shape,
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

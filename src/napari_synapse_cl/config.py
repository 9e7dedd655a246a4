"""Every setting, once: its name, default, bounds, unit and meaning.

The command line's flags, the forms in the widgets, the ``config.json`` of a run and the table of
settings in the documentation are all made from the fields below.
"""

import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_serializer,
    model_validator,
)
from pydantic.fields import FieldInfo

from napari_synapse_cl.errors import InputError


def _three_of_one(value: object) -> object:
    """Let one number stand for all three axes."""
    if isinstance(value, list | tuple) and len(value) == 1:
        value = value[0]
    return (value, value, value) if isinstance(value, int | float | str) else value


Voxels = Annotated[int, Field(ge=8, le=512)]
Nanometres = Annotated[float, Field(gt=0, le=10_000)]
Shape = Annotated[tuple[Voxels, Voxels, Voxels], BeforeValidator(_three_of_one)]
VoxelSize = Annotated[tuple[Nanometres, Nanometres, Nanometres], BeforeValidator(_three_of_one)]


def setting(default: Any, description: str, *, unit: str = "", **bounds: Any) -> Any:
    """Declare a setting: a pydantic field that also knows its unit.

    Parameters
    ----------
    default
        The default value.
    description
        What it does, in one or two sentences: help text and tooltip.
    unit
        The unit of the value, empty for a plain number.
    **bounds
        ``ge``, ``gt``, ``le``, ``lt``, ``title`` and so on, as pydantic's ``Field`` takes them.
    """
    return Field(
        default, description=description, json_schema_extra={"unit": unit} if unit else {}, **bounds
    )


class Section(BaseModel):
    """A group of settings that belong together."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False
    )


class DataConfig(Section):
    """Data."""

    image: Path | None = setting(
        None,
        "EM volume: a TIFF stack, a .npy file or a Zarr array. With neither image nor synapses, "
        "the synthetic sample volume is used.",
    )
    synapses: Path | None = setting(
        None, "Synapse positions: a CSV file with columns z, y, x in voxels and any others."
    )
    crops: Path | None = setting(
        None,
        "Folder of crops that were cut earlier, in place of an image: a folder crops-… that a run "
        "or the window left behind.",
    )
    voxel_size: VoxelSize | None = setting(
        None,
        "Voxel size along z, y, x. Rotations are made in physical space, so it matters where "
        "voxels are not cubes. Without it they are taken as cubes.",
        unit="nm",
    )
    crop_size: Shape = setting(
        (80, 80, 80),
        "Size of the crop around each synapse along z, y, x (one number for a cube). Each must "
        "be a multiple of the network's total downsampling, 16 by default.",
        unit="voxels",
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


class AugmentationConfig(Section):
    """Augmentation."""

    rotation_range: float = setting(
        15.0,
        "Maximum rotation angle, drawn anew for each of the three axes.",
        unit="degrees",
        ge=0,
        le=180,
    )
    flip_prob: float = setting(
        0.5, "Probability of a flip, drawn anew for each of the three axes.", ge=0, le=1
    )
    noise_level: float = setting(
        0.05,
        "Maximum standard deviation of the added Gaussian noise, as a share of the intensity range "
        "[0, 1].",
        ge=0,
        le=1,
    )
    contrast_range: float = setting(
        0.2, "Contrast is multiplied by a factor within 1 ± this.", ge=0, lt=1
    )
    brightness_range: float = setting(
        0.2, "Brightness is shifted by up to ± this, on intensities in [0, 1].", ge=0, le=1
    )
    gaussian_blur_sigma: float = setting(
        1.0, "Maximum standard deviation of the Gaussian blur.", unit="voxels", ge=0, le=10
    )


class ModelConfig(Section):
    """Model."""

    pretrained: Path | None = setting(
        None,
        "VGG3D checkpoint to start from. Its architecture is read from the file and replaces "
        "fmaps, n_convolutions and downsampling. Without it training starts from random weights.",
    )
    fmaps: int = setting(
        24,
        "Feature maps in the first stage; each stage doubles them.",
        title="Feature maps",
        ge=1,
        le=256,
    )
    n_convolutions: tuple[int, ...] = setting(
        (4, 2, 2, 2),
        "Convolutions in each stage.",
        title="Convolutions",
        min_length=1,
        max_length=6,
    )
    downsampling: Literal["isotropic", "anisotropic"] = setting(
        "isotropic",
        "Pooling after each stage: isotropic is 2×2×2 throughout; anisotropic is 1×2×2, and "
        "2×2×2 after the last, for sections thicker than pixels are wide.",
    )
    proj_dim: int = setting(
        128, "Output dimension of the projection head.", title="Projection size", ge=2, le=8192
    )
    proj_hidden_dim: int = setting(
        2048,
        "Hidden dimension of the projection head.",
        title="Projection hidden",
        ge=2,
        le=65_536,
    )
    freeze_backbone: bool = setting(
        False,
        "Train the projection head alone; weights and batch-norm statistics stay as they are.",
    )
    stage_to_finetune: int = setting(
        -1,
        "Train this stage alone, counted from 1 at the input; -1 trains all stages.",
        ge=-1,
        le=6,
    )


class TrainingConfig(Section):
    """Training."""

    batch_size: int = setting(32, "Synapses in a batch; each gives two views.", ge=2, le=65_536)
    num_epochs: int = setting(100, "Passes over the training synapses.", ge=1, le=1_000_000)
    learning_rate: float = setting(1e-4, "Peak learning rate of AdamW.", gt=0, le=10)
    weight_decay: float = setting(
        1e-4, "Weight decay of AdamW; none on biases and batch norms.", ge=0, le=10
    )
    temperature: float = setting(0.07, "Temperature of the NT-Xent loss.", gt=0, le=100)
    warmup_fraction: float = setting(
        0.05,
        "Share of the steps over which the learning rate rises linearly, before it falls along a "
        "cosine.",
        ge=0,
        le=1,
    )
    validation_fraction: float = setting(
        0.1,
        "Share of the synapses held out for the validation loss, taken from one end of the volume.",
        ge=0,
        le=0.5,
    )
    seed: int = setting(
        0, "Seed of the weights, the order of the synapses and the augmentations.", ge=0, lt=2**31
    )


class DeviceConfig(Section):
    """Device."""

    device: str = setting(
        "auto",
        "auto (cuda, then mps, then cpu), cpu, mps, cuda or cuda:N.",
        pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$",
    )
    precision: Literal["auto", "float32", "bfloat16"] = setting(
        "auto",
        "Precision of the convolutions; the loss is always float32. auto takes bfloat16 where a "
        "short measurement finds it faster, and its gradients right.",
    )


class ExtractionConfig(Section):
    """Extraction."""

    layer_num: int = setting(
        20,
        "Layer whose output becomes the features: an index into VGG3D's features, 0 to 33 by "
        "default. 20 is the first convolution of stage 3.",
        ge=0,
    )
    pooling: Literal["mean", "max"] = setting(
        "mean", "How a layer's map becomes one vector per synapse."
    )
    feature_format: Literal["csv", "parquet"] = setting("csv", "File format of the feature table.")
    label_column: str | None = setting(
        None,
        "Column of the synapse table that colours the map of the features. Without it the column "
        "class is used where there is one.",
    )


class RunConfig(Section):
    """Run."""

    output: Path | None = setting(
        None, "Folder for the results. Without it a new folder is made in synapse_cl_runs."
    )
    train_only: bool = setting(False, "Train, and extract no features.")
    extract_only: bool = setting(False, "Extract features with --checkpoint, without training.")
    checkpoint: Path | None = setting(
        None, "Checkpoint whose network extracts the features (with extract_only)."
    )
    resume: bool = setting(
        False, "Go on with the run in the output folder from its last checkpoint."
    )
    overwrite: bool = setting(False, "Replace a feature table that is already there.")


class Config(
    DataConfig,
    AugmentationConfig,
    ModelConfig,
    TrainingConfig,
    DeviceConfig,
    ExtractionConfig,
    RunConfig,
):
    """All settings of one run."""

    @model_validator(mode="after")
    def _settings_agree(self) -> Self:
        if self.image is not None and self.crops is not None:
            raise ValueError("image and crops exclude each other")
        source = "image" if self.crops is None else "crops"
        if (getattr(self, source) is None) != (self.synapses is None):
            missing = "synapses" if self.synapses is None else source
            raise ValueError(f"{source} and synapses belong together: {missing} is missing")
        if self.train_only and self.extract_only:
            raise ValueError("train_only and extract_only exclude each other")
        if self.extract_only and self.checkpoint is None:
            raise ValueError("extract_only needs a checkpoint")
        if self.checkpoint is not None and not self.extract_only:
            raise ValueError(
                "checkpoint is for extract_only; to start a training from a file name it as "
                "pretrained"
            )
        if self.resume and (self.output is None or self.extract_only):
            raise ValueError("resume needs the output folder of a training")
        if self.freeze_backbone and self.stage_to_finetune != -1:
            raise ValueError("freeze_backbone trains no stage, so stage_to_finetune must be -1")
        if self.stage_to_finetune == 0 or self.stage_to_finetune > len(self.n_convolutions):
            raise ValueError(
                f"stage_to_finetune must be -1 or a stage from 1 to {len(self.n_convolutions)}, "
                f"not {self.stage_to_finetune}"
            )
        if any(not 1 <= n <= 16 for n in self.n_convolutions):
            raise ValueError("n_convolutions: each stage has 1 to 16 convolutions")
        return self

    @field_serializer(
        "image", "synapses", "crops", "cache_dir", "pretrained", "output", "checkpoint"
    )
    def _absolute(self, path: Path | None) -> str | None:
        return None if path is None else str(path.absolute())

    @classmethod
    def from_values(cls, values: dict[str, Any]) -> Self:
        """Make a configuration from plain values, as flags, forms and files give them.

        Raises
        ------
        InputError
            If a setting is unknown or out of bounds, with its name, value and bounds.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            # One value can be wrong in several ways that read the same.
            problems = dict.fromkeys(_in_words(problem) for problem in error.errors())
            raise InputError("; ".join(problems)) from None

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Read a configuration that :meth:`as_json` wrote; see :func:`read_settings`."""
        return cls.from_values(read_settings(path))

    def as_json(self) -> dict[str, Any]:
        """Return the settings as JSON types, with absolute paths."""
        return self.model_dump(mode="json")


SECTIONS: tuple[type[Section], ...] = tuple(
    base for base in Config.__bases__ if issubclass(base, Section)
)
"""The sections of :class:`Config`, in the order in which people meet them."""


def unit_of(field: FieldInfo) -> str:
    """Return the unit of a setting, empty where it has none."""
    extra = field.json_schema_extra
    return str(extra.get("unit", "")) if isinstance(extra, dict) else ""


def read_settings(path: Path) -> dict[str, Any]:
    """Read the settings named in a JSON file, unchecked.

    Raises
    ------
    InputError
        If there is no such file, or it does not hold a JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read the settings in {path}: {error.strerror}") from None
    except ValueError as error:
        raise InputError(f"{path} is not a JSON file of settings: {error}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} is not a JSON file of settings: it holds no object")
    return content


def possible_value(name: str, value: Any) -> Any:
    """Return a value as the setting holds it, whatever the other settings are.

    Raises
    ------
    InputError
        If there is no such setting, or it cannot have this value.
    """
    section = next((section for section in SECTIONS if name in section.model_fields), Section)
    try:
        return getattr(section.model_validate({name: value}), name)
    except ValidationError as error:
        raise InputError(_in_words(error.errors()[0])) from None


def _in_words(problem: Any) -> str:
    """Say in one clause what is wrong with a setting."""
    message = problem["msg"].removeprefix("Value error, ")
    if not problem["loc"]:
        return message
    name = str(problem["loc"][0])
    if problem["type"] == "extra_forbidden":
        return f"there is no setting called {name}"
    return f"{name} cannot be {problem['input']!r}: {message[0].lower()}{message[1:]}"

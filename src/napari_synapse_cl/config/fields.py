"""What settings are made of: sections of fields that know their unit and bounds."""

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.fields import FieldInfo


def _three_of_one(value: object) -> object:
    """Let one number stand for all three axes."""
    if isinstance(value, list | tuple) and len(value) == 1:
        value = value[0]
    return (value, value, value) if isinstance(value, int | float | str) else value


def _several(value: object) -> object:
    """Let one number stand for several numbers, and leave out repetitions."""
    values = value if isinstance(value, list | tuple) else (value,)
    return tuple(dict.fromkeys(values))


Voxels = Annotated[int, Field(ge=8, le=512)]
Nanometres = Annotated[float, Field(gt=0, le=10_000)]
Shape = Annotated[tuple[Voxels, Voxels, Voxels], BeforeValidator(_three_of_one)]
VoxelSize = Annotated[tuple[Nanometres, Nanometres, Nanometres], BeforeValidator(_three_of_one)]
LayerIndex = Annotated[int, Field(ge=0)]
LayerIndices = Annotated[tuple[LayerIndex, ...], BeforeValidator(_several)]
Voxel = Annotated[int, Field(ge=0)]
Region = tuple[Voxel, Voxel, Voxel, Voxel, Voxel, Voxel]


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


def unit_of(field: FieldInfo) -> str:
    """Return the unit of a setting, empty where it has none."""
    extra = field.json_schema_extra
    return str(extra.get("unit", "")) if isinstance(extra, dict) else ""

"""What settings are made of: sections of fields that know their unit and bounds."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.fields import FieldInfo

from napari_synapse_cl.system.downloads import in_full

FORMAT_PREFIXES = ("precomputed", "zarr", "zarr2", "zarr3", "n5")
"""Names of formats that may stand before a path or a URL, with ``://`` between."""


def _three_of_one(value: object) -> object:
    """Let one number stand for all three axes."""
    if isinstance(value, list | tuple) and len(value) == 1:
        value = value[0]
    return (value, value, value) if isinstance(value, int | float | str) else value


def _several(value: object) -> object:
    """Let one value stand for several, and leave out repetitions."""
    values = value if isinstance(value, list | tuple) else (value,)
    return tuple(dict.fromkeys(values))


def _several_or_none(value: object) -> object:
    """Let the word none stand for no value at all."""
    values = _several(value)
    return () if values == ("none",) else values


def _as_tuple(value: object) -> object:
    """Let one number stand for a tuple of it."""
    return (value,) if isinstance(value, int | float | str) else value


def _words(value: object) -> object:
    """Let one text stand for the words in it."""
    return tuple(value.split()) if isinstance(value, str) else value


def _location(value: object) -> object:
    """Let a path stand for its text."""
    return str(value) if isinstance(value, Path) else value


def _network(value: object) -> object:
    """Let a path stand for its text, and the name of a network of the program for its place."""
    value = _location(value)
    return in_full(value) if isinstance(value, str) else value


def absolute(location: str) -> str:
    """Return a location that means the same in every folder."""
    prefix, _, rest = location.rpartition("://")
    if prefix and prefix not in FORMAT_PREFIXES:
        return location
    return f"{prefix}://{Path(rest).absolute()}" if prefix else str(Path(rest).absolute())


def values_by_role(roles: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Return the label values of each role.

    Parameters
    ----------
    roles
        As in ``("cleft=7", "vesicles=6,8")``.

    Raises
    ------
    ValueError
        If one of them is not written so.
    """
    found: dict[str, tuple[int, ...]] = {}
    for role in roles:
        match = re.fullmatch(r"(\w+)=(\d+(?:,\d+)*)", role)
        if match is None:
            raise ValueError(
                f"{role} is not written as a name and label values, as in vesicles=6,8"
            )
        values = tuple(int(value) for value in match[2].split(","))
        found[match[1]] = (*found.get(match[1], ()), *values)
    return found


def _checked_roles(roles: tuple[str, ...]) -> tuple[str, ...]:
    values_by_role(roles)
    return roles


def _as_roles(value: object) -> object:
    """Let a mapping of names to label values stand for their text."""
    if not isinstance(value, Mapping):
        return _words(value)
    texts = {
        name: ",".join(map(str, labels if isinstance(labels, list | tuple) else [labels]))
        for name, labels in value.items()
    }
    return tuple(f"{name}={labels}" for name, labels in texts.items())


Voxels = Annotated[int, Field(ge=8, le=512)]
Nanometres = Annotated[float, Field(gt=0, le=10_000)]
Shape = Annotated[tuple[Voxels, Voxels, Voxels], BeforeValidator(_three_of_one)]
VoxelSize = Annotated[tuple[Nanometres, Nanometres, Nanometres], BeforeValidator(_three_of_one)]
LayerIndex = Annotated[int, Field(ge=0)]
LayerIndices = Annotated[tuple[LayerIndex, ...], BeforeValidator(_several_or_none)]
Spreads = Annotated[tuple[Annotated[float, Field(gt=0, le=1)], ...], BeforeValidator(_as_tuple)]
CutoutKinds = Annotated[
    tuple[Literal["cuboid", "corner", "periphery"], ...],
    BeforeValidator(_several),
    Field(min_length=1),
]
ExportFormat = Literal["pt", "safetensors", "onnx", "bioimageio"]
ExportFormats = Annotated[tuple[ExportFormat, ...], BeforeValidator(_several)]
Location = Annotated[str, BeforeValidator(_location), Field(min_length=1)]
Network = Annotated[str, BeforeValidator(_network), Field(min_length=1)]
"""A path or a URL."""
Words = Annotated[tuple[str, ...], BeforeValidator(_words)]
Several = Annotated[tuple[str, ...], BeforeValidator(_several)]
Roles = Annotated[tuple[str, ...], BeforeValidator(_as_roles), AfterValidator(_checked_roles)]
Voxel = Annotated[int, Field(ge=0)]
Region = tuple[Voxel, Voxel, Voxel, Voxel, Voxel, Voxel]


def setting(
    default: Any,
    description: str,
    *,
    unit: str = "",
    slider_end: float | None = None,
    **bounds: Any,
) -> Any:
    """Declare a setting: a pydantic field that also knows its unit.

    Parameters
    ----------
    description
        What it does, in one or two sentences: help text and tooltip.
    unit
        The unit of the value, empty for a plain number.
    slider_end
        Where a slider for it ends, if not at the largest value that is allowed.
    **bounds
        ``ge``, ``gt``, ``le``, ``lt``, ``title`` and so on, as pydantic's ``Field`` takes them.
    """
    extra: dict[str, Any] = {"unit": unit, "slider_end": slider_end}
    return Field(default, description=description, json_schema_extra=extra, **bounds)


class Section(BaseModel):
    """A group of settings that belong together."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        validate_default=True,
        allow_inf_nan=False,
        # No section checks values by itself: all are one then, which does.
        defer_build=True,
    )


def unit_of(field: FieldInfo) -> str:
    """Return the unit of a setting, empty where it has none."""
    extra = field.json_schema_extra
    return str(extra.get("unit", "")) if isinstance(extra, dict) else ""


def slider_end(field: FieldInfo) -> float | None:
    """Return where a slider for a setting ends; None for where its values end."""
    extra = field.json_schema_extra
    end = extra.get("slider_end") if isinstance(extra, dict) else None
    return end if isinstance(end, int | float) else None

"""Annotations of neuroglancer: those of a layer, or a whole state with its layers.

A voxel i reaches from i to i + 1, so its centre is at i + 0.5, where clicks put annotations. Whole
numbers are written by programs and name a voxel, whose centre is meant.

Annotations count in the input dimensions of their source, and a transformation leads from there to
the output dimensions: each row of its matrix belongs to one of these, and the coefficients apply to
lengths, while the last one of a row is a shift in output voxels. Without a matrix, the dimensions
correspond one by one, whatever they are called.

References
----------
``coordinate_transform.ts`` and ``render_coordinate_transform.ts`` of
https://github.com/google/neuroglancer
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from napari_synapse_cl.data import pd
from napari_synapse_cl.data.formats.places import nanometres
from napari_synapse_cl.data.tables.typed import from_cells
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.system.files import read_json
from napari_synapse_cl.system.words import VoxelSize, triple

VOXEL_SIZE = "neuroglancer_voxel_size"
"""Under which the attributes of a table say what its positions count in, z, y, x in nm."""

_ENDS = ("pointA", "pointB")
_CENTRES = {"point": ("point",), "ellipsoid": ("center",)} | dict.fromkeys(
    ("line", "axis_aligned_bounding_box"), _ENDS
)
"""Of which coordinates of an annotation its position is the mean, by its type."""

_LOCAL = "local://annotations"

Dimension = tuple[float, str]
"""Scale and unit; of a length the scale is in metres."""


def read_annotations(path: Path, layer_name: str | None) -> pd.DataFrame:
    """Read annotations as a table.

    Parameters
    ----------
    path
        A JSON file: a list of annotations, a layer that has one, or a state with layers.
    layer_name
        Name of the layer; needed where several have annotations.

    Returns
    -------
    pandas.DataFrame
        A row each, with columns x, y, z, of lines also pointA_x to pointB_z, and a column for
        everything else that annotations hold, as JSON where that is no number or text. An
        annotation without one place, such as a polyline, has no position. Positions are in voxels
        the first of which has its centre at 0, while in neuroglancer it is at 0.5. What they count
        in is in ``attrs[VOXEL_SIZE]``, if the file says it.

    Raises
    ------
    InputError
        If there are no annotations, it is not clear which layer is meant, or where they lie.
    """
    content = read_json(path)
    state = content if isinstance(content, dict) else {}
    layer = {"annotations": content} if isinstance(content, list) else state
    if "layers" in state:
        layer = _choose(state["layers"], layer_name, path)
    annotations = layer.get("annotations")
    if not annotations or not all(isinstance(item, dict) for item in annotations):
        raise InputError(f"{path} holds no annotations of neuroglancer")
    space = AnnotationSpace(layer, state.get("dimensions"), path)
    properties = [str(p.get("id")) for p in layer.get("annotationProperties", ())]
    table = from_cells(_row(item, space, properties) for item in annotations)
    if space.voxel_size:
        table.attrs[VOXEL_SIZE] = space.voxel_size
    return table


def _choose(layers: Any, name: str | None, path: Path) -> dict[str, Any]:
    """Return the layer of that name, or the only one with annotations."""
    if isinstance(layers, dict):
        layers = [{"name": key, **layer} for key, layer in layers.items()]
    found = {str(layer.get("name")): layer for layer in layers if layer.get("annotations")}
    names = ", ".join(found)
    if not found:
        raise InputError(
            f"{path} has no layer that holds annotations itself; save those that lie elsewhere "
            "as a table"
        )
    if name is None and len(found) > 1:
        raise InputError(
            f"{path} has several layers of annotations: {names}; name one behind the file, as in "
            f"{path.name}#{next(iter(found))}"
        )
    if name is not None and name not in found:
        raise InputError(f"{path} has no layer of annotations {name}; it has {names}")
    return found[next(iter(found)) if name is None else name]


def _row(item: dict[str, Any], space: AnnotationSpace, properties: list[str]) -> dict[str, Any]:
    """Return an annotation as a row of the table."""
    kind = item.get("type", "point")
    names = _CENTRES.get(kind, ())
    points = [space.centred(item[name]) for name in names]
    centre = np.mean(points, axis=0) if points else np.full(3, np.nan)
    row: dict[str, Any] = {"id": item.get("id"), "type": kind, **_coordinates("{}", centre)}
    rest = {key: value for key, value in item.items() if key not in {"id", "type", "props"}}
    if kind == "line":
        for name, point in zip(_ENDS, points, strict=True):
            row |= _coordinates(f"{name}_{{}}", point)
    if kind != "axis_aligned_bounding_box":
        rest = {key: value for key, value in rest.items() if key not in names}
    for number, value in enumerate(item.get("props", ())):
        name = properties[number] if number < len(properties) else f"props_{number}"
        row[name if name not in row else f"props_{number}"] = value
    for key, value in rest.items():
        row.setdefault(key, json.dumps(value) if isinstance(value, list | dict) else value)
    return row


def _coordinates(template: str, point: Sequence[float] | np.ndarray) -> dict[str, float]:
    return {template.format(axis): float(value) for axis, value in zip("xyz", point, strict=True)}


class AnnotationSpace:
    """The space that the annotations of a layer are in.

    Parameters
    ----------
    layer
        The layer, whose source may say how its annotations lie.
    state_dimensions
        What the state counts in; it holds for layers that say nothing.

    Raises
    ------
    InputError
        If x, y and z are not among the dimensions, or the transformation is none.
    """

    def __init__(self, layer: Mapping[str, Any], state_dimensions: Any, path: Path) -> None:
        self._path = path
        transform = _transform(layer, path)
        output = _dimensions(transform.get("outputDimensions"), path)
        given = _dimensions(transform.get("inputDimensions"), path)
        self._output = output or given or _dimensions(state_dimensions, path)
        counted_in = given or self._output
        if len(counted_in) != len(self._output):
            raise InputError(
                f"the annotations in {path} have {len(counted_in)} inputDimensions and "
                f"{len(self._output)} outputDimensions, which must be as many"
            )
        n_told = transform.get("sourceRank")
        self._n_coordinates = n_told if isinstance(n_told, int) else len(counted_in)
        axes = self._axes(list(self._output))
        matrix = self._matrix(transform.get("matrix"), list(counted_in.values()))
        self._matrix_xyz = None if matrix is None else matrix[list(axes)]
        self._axes_xyz = axes

    @property
    def voxel_size(self) -> VoxelSize | None:
        """What positions count in along z, y, x in nm, or None where the file does not say it."""
        scales = list(self._output.values())
        if not scales:
            return None
        lengths = [scales[axis] for axis in reversed(self._axes_xyz)]
        if any(unit != "m" for _, unit in lengths):
            return None
        # 8e-9 m are 8.000000000000002 nm.
        return triple(float(f"{metres * 1e9:.9g}") for metres, _ in lengths)

    def centred(self, coordinates: Sequence[float]) -> np.ndarray:
        """Return x, y, z of a place in voxels, the first of which has its centre at 0.

        Parameters
        ----------
        coordinates
            Of an annotation, as they are written.
        """
        point = np.array([float(number) for number in coordinates])
        if len(point) < max(self._n_coordinates, 0 if self._output else 3):
            raise ValueError(f"a place has {len(point)} coordinates: {point.tolist()}")
        if (point == np.round(point)).all():
            point += 0.5
        if self._matrix_xyz is None:
            return point[list(self._axes_xyz)] - 0.5
        n_inputs = self._matrix_xyz.shape[1] - 1
        # Where a source has fewer dimensions, it lies at the origin of the others.
        point = np.concatenate([point, np.zeros(max(n_inputs - len(point), 0))])[:n_inputs]
        return self._matrix_xyz[:, :-1] @ point + self._matrix_xyz[:, -1] - 0.5

    def _axes(self, names: list[str]) -> tuple[int, int, int]:
        """Return which of the output dimensions are x, y and z."""
        if set("xyz") <= set(names):
            return (names.index("x"), names.index("y"), names.index("z"))
        if len(names) not in (0, 3):
            raise InputError(
                f"the annotations in {self._path} have the dimensions {', '.join(names)}; "
                "x, y, z are needed"
            )
        return (0, 1, 2)

    def _matrix(self, given: Any, inputs: list[Dimension]) -> np.ndarray | None:
        """Return ``(D, D + 1)`` that leads from input voxels to output voxels.

        None where these are the same.
        """
        outputs = list(self._output.values())
        n = len(outputs)
        if given is None and inputs == outputs and self._n_coordinates >= n:
            return None
        try:
            matrix = np.eye(n, n + 1) if given is None else np.array(given, dtype=float)
        except (TypeError, ValueError):
            matrix = np.empty(0)
        if matrix.shape != (n, n + 1) or not np.isfinite(matrix).all():
            raise InputError(
                f"the matrix that {self._path} moves its annotations by is none of {n} × {n + 1} "
                "numbers"
            )
        for row in range(n):
            for column in np.flatnonzero(matrix[row, :-1]):
                (scale, unit), (to_scale, to_unit) = inputs[column], outputs[row]
                if unit != to_unit:
                    raise InputError(
                        f"{self._path} turns {unit or 'numbers'} of inputDimensions into "
                        f"{to_unit or 'numbers'} of outputDimensions, which is not followed: save "
                        "the annotations as a table"
                    )
                matrix[row, column] *= scale / to_scale
        return matrix


def _transform(layer: Mapping[str, Any], path: Path) -> Mapping[str, Any]:
    """Return the transformation of the source that a layer's own annotations are in."""
    sources = layer.get("source")
    told = [
        source
        for source in (sources if isinstance(sources, list) else [sources])
        if isinstance(source, dict) and source.get("transform")
    ]
    # A layer may show images too, which lie elsewhere.
    own = [source for source in told if str(source.get("url", _LOCAL)).startswith(_LOCAL)]
    if not own:
        return {}
    transform = own[0]["transform"]
    if not isinstance(transform, dict) or not transform.keys() & {
        "outputDimensions",
        "inputDimensions",
    }:
        raise InputError(
            f"{path} moves its annotations in a way of older neuroglancer versions, which is not "
            "followed: save them as a table"
        )
    return transform


def _dimensions(found: Any, path: Path) -> dict[str, Dimension]:
    """Return the scale and unit of each dimension; none where there is nothing."""
    if not found:
        return {}
    try:
        pairs = {str(name): (float(scale), str(unit)) for name, (scale, unit) in found.items()}
    except (AttributeError, TypeError, ValueError):
        pairs = {}
    if not pairs or not all(0 < scale < np.inf for scale, _ in pairs.values()):
        raise InputError(
            f"the dimensions of the annotations in {path} are not understood: each needs a scale "
            "and a unit"
        )
    # As in JavaScript, names that are numbers come first, in their order.
    numbers = sorted((name for name in pairs if name.isdecimal()), key=int)
    ordered = [*numbers, *(name for name in pairs if not name.isdecimal())]
    return {name: _in_metres(*pairs[name]) for name in ordered}


def _in_metres(scale: float, unit: str) -> Dimension:
    """Return lengths in metres, and what is none as it is."""
    length = nanometres(unit)
    return (scale, unit) if length is None else (scale * length / 1e9, "m")

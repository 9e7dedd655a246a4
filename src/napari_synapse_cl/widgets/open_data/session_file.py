"""Sessions as files: layers with their places and looks, what belongs together, and the view.

Volumes and labels are named by their paths or URLs. Points are kept in the file itself, as a table
in Parquet: those that were placed by hand are nowhere else.
"""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from napari.layers import Image, Labels, Layer, Points
from napari.utils.colormaps import AVAILABLE_COLORMAPS

from napari_synapse_cl import __version__
from napari_synapse_cl.data.volumes import open_volume
from napari_synapse_cl.errors import InputError, JobError, reason
from napari_synapse_cl.runs.events import Message, Progress
from napari_synapse_cl.system.files import read_json, write_json
from napari_synapse_cl.system.words import size
from napari_synapse_cl.widgets.jobs.job import Job
from napari_synapse_cl.widgets.layers.features import METADATA_KEY, VOLUME_KEY
from napari_synapse_cl.widgets.layers.voxels import OPENED_AS, geometry_of, location_of
from napari_synapse_cl.widgets.look import PLUGIN
from napari_synapse_cl.widgets.open_data.jobs import levels_of, read_first
from napari_synapse_cl.widgets.open_data.layers import LayerTuple, layer_data
from napari_synapse_cl.widgets.open_data.sample import SampleJob

KIND = "napari-synapse-cl session"
"""Under this key a session says which version has written it; other files have no such key."""
SAMPLE = (PLUGIN, "em_sample")
LOOKS = {
    "image": ("visible", "opacity", "blending", "contrast_limits", "gamma", "colormap"),
    "labels": ("visible", "opacity", "blending"),
    "points": (
        "visible",
        "opacity",
        "blending",
        "projection_mode",
        "symbol",
        "size",
        "shown",
        "face_color",
        "border_color",
        "border_width",
    ),
}
"""What of how layers look is kept, by their kind."""


@dataclass(frozen=True)
class Gathered:
    """What is to be written, and the layers that are not."""

    content: dict[str, Any]
    points: list[tuple[dict[str, Any], np.ndarray, dict[str, Any]]]
    """Entries of points that lack their table yet, with positions and attributes of the layer."""
    left_out: list[str]
    """Names of layers with why they are not kept."""


@dataclass(frozen=True)
class Restored:
    """A layer of a session."""

    name: str
    layer: LayerTuple


@dataclass(frozen=True)
class Missing:
    """What a session names and cannot be opened, and why."""

    name: str
    why: str


def gather(layers: Any, **more: Any) -> Gathered:
    """Take what a session keeps of layers as they are now; it is written later.

    Parameters
    ----------
    more
        What else is to be kept, of JSON's types.
    """
    entries: list[dict[str, Any]] = []
    points, left_out = [], []
    for layer in layers:
        try:
            entry = _entry(layer)
        except InputError as error:
            left_out.append(f"{layer.name} ({error})")
            continue
        entries.append(entry)
        if isinstance(layer, Labels) and layer.editable:
            left_out.append(f"{layer.name} (what may have been painted into it)")
        if isinstance(layer, Points):
            data, meta, _ = layer.as_layer_data_tuple()
            points.append((entry, data.copy(), meta))
    return Gathered({KIND: __version__, "layers": entries, **more}, points, left_out)


def write_session(path: Path, gathered: Gathered) -> tuple[Path, list[str]]:
    """Write a session, whole or not at all; for a worker.

    Returns
    -------
    path
        The file.
    left_out
        Layers that are not in it, with why.

    Raises
    ------
    JobError
        If it cannot be written.
    """
    # They take pandas, which a dock has no time for when it opens.
    from napari_synapse_cl.widgets.layers.files import write_points

    content, left_out = gathered.content, list(gathered.left_out)
    for entry, data, meta in gathered.points:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "points.parquet"
            try:
                write_points(str(file), data, meta)
            except JobError as error:
                why = str(error).removesuffix(".")
                left_out.append(f"{entry['name']} ({why[:1].lower()}{why[1:]})")
                content["layers"].remove(entry)
                continue
            entry["table"] = base64.b64encode(file.read_bytes()).decode()
    try:
        write_json(path, content)
    except OSError as error:
        raise JobError(f"cannot write the session {path}: {reason(error)}") from error
    return path, left_out


def read_session(path: Path) -> dict[str, Any]:
    """Read a session.

    Raises
    ------
    InputError
        If it cannot be read, is damaged, or is something else.
    """
    try:
        content = read_json(path)
    except OSError as error:
        raise InputError(f"cannot read the session {path}: {reason(error)}") from None
    except ValueError as error:
        raise InputError(f"the session {path} is damaged, or no JSON: {error}") from None
    if not isinstance(content, dict) or KIND not in content:
        raise InputError(f"{path} is no session: it was not saved by “Save session”")
    layers = content.get("layers")
    if not isinstance(layers, list) or not all(isinstance(entry, dict) for entry in layers):
        raise InputError(f"the session {path} is damaged: its layers are none")
    return content


class SessionJob(Job):
    """Opens what a session names; tells each layer, or why it is missing, and at last the rest."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._is_wanted = True
        self._sample: SampleJob | None = None

    def events(self) -> Iterator[Any]:
        """Yield sentences, layers and what is missing, and then all that the file holds.

        Raises
        ------
        InputError
            If it is no session.
        """
        content = read_session(self._path)
        for entry in content["layers"]:
            if not self._is_wanted:
                return
            name = str(entry.get("name"))
            yield f"Opening {name} …"
            try:
                yield from self._layer(name, entry)
            except (InputError, JobError) as error:
                yield Missing(name, str(error))
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                yield Missing(name, f"its entry in the session is damaged: {reason(error)}")
        yield content

    def end_soon(self) -> None:
        """End as soon as what is being opened has answered."""
        self._is_wanted = False
        if self._sample is not None:
            self._sample.end_soon()

    def _layer(self, name: str, entry: dict[str, Any]) -> Iterator[Any]:
        kind = entry["kind"]
        own = {key: value for key, value in entry["look"].items() if key in LOOKS[kind]}
        if kind == "points":
            data, keywords = _read_points(entry)
        elif entry.get("sample"):
            self._sample = SampleJob()
            for told in self._sample.events():
                if isinstance(told, Message):
                    yield told.text
                elif not isinstance(told, Progress):
                    data = told.image
            keywords = {**_geometry(entry), "metadata": {METADATA_KEY: dict(entry["metadata"])}}
        else:
            data, keywords = _open(entry, are_labels=kind == "labels")
        yield Restored(name, (data, {**keywords, **own, "name": name}, kind))


def _entry(layer: Layer) -> dict[str, Any]:
    """Return what is kept of a layer; of points all but their table.

    Raises
    ------
    InputError
        If it cannot be kept: why.
    """
    kind = {Image: "image", Labels: "labels", Points: "points"}.get(type(layer))
    if kind is None:
        raise InputError(f"{type(layer).__name__} are not kept")
    if layer.ndim != 3:
        raise InputError(f"it is {layer.ndim}D")
    entry = {"kind": kind, "name": layer.name, "look": _look(layer, kind)}
    if isinstance(layer, Points):
        if not len(layer.data):
            raise InputError("it holds no points")
        return {**entry, "volume": layer.metadata.get(VOLUME_KEY)}
    location = location_of(layer)
    told = layer.metadata.get(METADATA_KEY, {})
    if location is not None:
        entry["location"] = location
        entry["shape"] = list((layer.data[0] if layer.multiscale else layer.data).shape)
    elif isinstance(layer, Image) and layer.source.sample == SAMPLE:
        entry["sample"] = True
    else:
        raise InputError("no file holds it")
    geometry = {name: _plain(value) for name, value in geometry_of(layer).items()}
    return {**entry, "metadata": _plain(told), "geometry": geometry}


def _look(layer: Layer, kind: str) -> dict[str, Any]:
    look = {name: getattr(layer, name) for name in LOOKS[kind]}
    if kind == "points":
        # Rows without a position are left out of the table.
        there = np.isfinite(layer.data).all(axis=1)
        for name, value in look.items():
            if isinstance(value, np.ndarray) and len(value) == len(there):
                look[name] = value[there]
    elif kind == "image":
        name = layer.colormap.name
        look["colormap"] = name if name in AVAILABLE_COLORMAPS else "gray"
    return _plain(look)


def _plain(value: Any) -> Any:
    """Return a value of a layer as JSON can hold it."""
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value if isinstance(value, bool | int | float | None) else str(value)


def _geometry(entry: dict[str, Any]) -> dict[str, Any]:
    geometry = entry["geometry"]
    names = ("scale", "translate", "rotate", "shear", "affine")
    return {
        **{name: np.array(geometry[name], dtype=float) for name in names},
        "units": tuple(geometry["units"]),
        "axis_labels": tuple(geometry["axis_labels"]),
    }


def _open(entry: dict[str, Any], *, are_labels: bool) -> tuple[Any, dict[str, Any]]:
    """Open a volume or labels again, if they are what they were."""
    metadata = dict(entry["metadata"])
    asked = str(metadata.get(OPENED_AS, entry["location"]))
    volume = open_volume(asked, are_labels=are_labels)
    if list(volume.shape) != entry["shape"]:
        raise InputError(f"{asked} holds another volume now, of {size(volume.shape)} voxels")
    levels = levels_of(volume, asked)
    read_first(levels[-1], 0.5)
    metadata.setdefault("location", entry["location"])
    keywords: dict[str, Any] = {**_geometry(entry), "metadata": {METADATA_KEY: metadata}}
    if not are_labels:
        keywords["rgb"] = False
    return layer_data(levels, keywords)


def _read_points(entry: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    from napari_synapse_cl.widgets.layers.files import read_points

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "points.parquet"
        file.write_bytes(base64.b64decode(entry["table"], validate=True))
        [(data, keywords, _)] = read_points(str(file))
    if isinstance(entry["volume"], dict):
        keywords["metadata"][VOLUME_KEY] = entry["volume"]
    return data, keywords

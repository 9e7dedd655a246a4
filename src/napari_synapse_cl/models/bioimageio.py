"""Export a backbone as a package of the BioImage Model Zoo, which its own library validates.

https://bioimage.io/docs/#/developers_guide/model
"""

import json
import shutil
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from importlib.metadata import metadata
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor

from napari_synapse_cl import __version__
from napari_synapse_cl.errors import JobError
from napari_synapse_cl.models import standalone_vgg3d
from napari_synapse_cl.models.checkpoints import DESCRIPTION, load_backbone
from napari_synapse_cl.models.export_formats import (
    Export,
    Layers,
    compare,
    output_names,
    run_onnx,
    write_checked,
    write_onnx,
    write_pt,
)
from napari_synapse_cl.models.standalone_vgg3d import StandaloneVgg3D
from napari_synapse_cl.system.downloads import DESCRIPTIONS
from napari_synapse_cl.system.files import sha256_of
from napari_synapse_cl.system.words import Triple, size

WEIGHTS, ONNX, CODE, README = "vgg3d.pt", "vgg3d.onnx", "vgg3d.py", "README.md"
"""Names of files in a package."""
_FORMAT_VERSION = "0.5.4"
"""The first that knows all that is said here."""
_TOLERANCE = 1e-3
"""Of maps, relative to their largest value: others round otherwise, GPUs in TF32 most."""
_CROPS = "crops"
_KEYWORDS = ("fmaps", "n_convolutions", "downsample_factors")
_TAGS = ("3d", "electron-microscopy", "feature-extraction", "pytorch", "synapse", "vgg3d")
_CITED = {
    "VGG3D after Simonyan, Zisserman: Very Deep Convolutional Networks for Large-Scale Image "
    "Recognition, 2015": "10.48550/arXiv.1409.1556",
    "Networks of this kind for synapses: Eckstein et al.: Neurotransmitter classification from "
    "electron microscopy images at synaptic sites in Drosophila melanogaster, "
    "2024": "10.1016/j.cell.2024.03.016",
}
"""What the zoo wants cited, with a DOI."""


@dataclass(frozen=True)
class TrainingRecord:
    """What a package tells of how its network was trained; nothing where that is not known."""

    recipe: str | None = None
    """The recipe that its settings are those of."""
    pretrained: str | None = None
    """What it started from: a URL, or the name of a file."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """In plain types, by name."""
    data: Sequence[Mapping[str, str]] = ()
    """For each source ``what`` it is, and the ``sha256`` of what ``hashed`` says."""


@dataclass(frozen=True)
class _Test:
    """Crops ``(1, 1, D, H, W)`` and, by the names of outputs, the maps that a network makes."""

    crops: Tensor
    maps: Mapping[str, Tensor]


def export_package(path: Path, export: Export, record: TrainingRecord) -> None:
    """Write a network as a package of the BioImage Model Zoo, whole or not at all.

    Its weights are in it as a state dict with the code for it and as ONNX, both with the outputs of
    :func:`~napari_synapse_cl.models.export_formats.export_network`.

    Parameters
    ----------
    record
        How it was trained, as far as that is known.

    Raises
    ------
    OSError
        If the disk does not take it.
    JobError
        If it cannot be written, the zoo's library finds it wrong, or its networks are not this one;
        nothing is kept of it then.
    """
    # Its classifier tells the classes of another training, and is most of the file.
    write = partial(_write, record=record)
    write_checked(path, replace(export, classifier={}), write, _check)


def _write(path: Path, export: Export, record: TrainingRecord) -> None:
    import yaml

    test = _test_of(export)
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_pt(folder / WEIGHTS, export)
        write_onnx(folder / ONNX, export)
        shutil.copyfile(standalone_vgg3d.__file__, folder / CODE)
        (folder / README).write_text(_readme(export, record), encoding="utf-8")
        for name, tensor in {_CROPS: test.crops, **test.maps}.items():
            np.save(folder / f"{name}.npy", tensor.numpy())
        description = _description(export, test, record, folder)
        # Weights hardly shrink; without compression they are written and read at once.
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(DESCRIPTIONS[0], yaml.safe_dump(description, sort_keys=False))
            for file in sorted(folder.iterdir()):
                archive.write(file, file.name)


def _source(file: Path) -> dict[str, Any]:
    return {"source": file.name, "sha256": sha256_of(file)}


def _test_of(export: Export) -> _Test:
    """Make crops of noise, always the same, and let the network look at them."""
    z, y, x = export.architecture.total_downsampling
    generator = torch.Generator().manual_seed(0)
    crops = torch.rand((1, 1, 2 * z, 2 * y, 2 * x), generator=generator) * 2 - 1
    with torch.no_grad():
        maps = Layers(export.network, export.layers).eval()(crops)
    names = [name.lower() for name in output_names(export)]
    return _Test(crops, dict(zip(names, maps, strict=True)))


def _description(
    export: Export, test: _Test, record: TrainingRecord, folder: Path
) -> dict[str, Any]:
    """Return what the zoo calls the description of a resource, in plain types."""
    program = metadata("napari-synapse-cl")
    architecture, said = export.architecture, export.description
    return {
        "type": "model",
        "format_version": _FORMAT_VERSION,
        "name": f"VGG3D for synapses ({'-'.join(map(str, architecture.fmaps))})",
        "description": "Maps of features of crops of electron-microscopy volumes around synapses, "
        "by a VGG3D without its classifier",
        # Of the program, as the README says: who trained the network is not known here.
        "authors": [{"name": program["Author"]}],
        "license": program["License-Expression"],
        "cite": [{"text": text, "doi": doi} for text, doi in _CITED.items()],
        "tags": list(_TAGS),
        "documentation": _source(folder / README),
        "inputs": [
            {
                "id": _CROPS,
                "description": "Grey values, black at -1 and white at 1",
                "axes": _axes(export, ["grey"], (1, 1, 1), is_input=True),
                "data": {"type": "float32", "range": [-1, 1]},
                "test_tensor": _source(folder / f"{_CROPS}.npy"),
            }
        ],
        "outputs": [_output(export, name, maps, folder) for name, maps in test.maps.items()],
        "weights": _weights(export, folder),
        "config": {
            "bioimageio": {
                "architecture_type": "VGG3D",
                "model_parameter_count": sum(p.numel() for p in export.network.parameters()),
                "modality": "electron microscopy",
                "target_structure": ["synapse"],
                "task": "feature extraction",
                "reproducibility_tolerance": [
                    {
                        "output_ids": [name],
                        "relative_tolerance": _TOLERANCE,
                        "absolute_tolerance": _TOLERANCE * float(maps.abs().max()),
                    }
                    for name, maps in test.maps.items()
                ],
            },
            DESCRIPTION: {
                "version": said.pop(DESCRIPTION),
                **{name: json.loads(text) for name, text in said.items()},
                **asdict(record),
            },
        },
    }


def _output(export: Export, name: str, maps: Tensor, folder: Path) -> dict[str, Any]:
    layers = export.architecture.layers
    layer = layers[-1] if name == "features" else layers[int(name[1:])]
    channels = [f"channel{i}" for i in range(maps.shape[1])]
    return {
        "id": name,
        "description": f"Layer {layer.index}: {layer.name}",
        "axes": _axes(export, channels, layer.stride, is_input=False),
        "data": {"type": "float32"},
        "test_tensor": _source(folder / f"{name}.npy"),
    }


def _axes(
    export: Export, channels: Sequence[str], stride: Triple, *, is_input: bool
) -> list[dict[str, Any]]:
    """Return the axes of crops, or of maps with so many voxels between their elements."""
    voxel_size, unit = export.voxel_size or (1.0, 1.0, 1.0), "nanometer"
    steps = export.architecture.total_downsampling
    space = [
        {
            "type": "space",
            "id": name,
            "size": {"min": step, "step": step}
            if is_input
            else {"tensor_id": _CROPS, "axis_id": name},
            "scale": voxel * apart,
            **({} if export.voxel_size is None else {"unit": unit}),
        }
        for name, step, voxel, apart in zip("zyx", steps, voxel_size, stride, strict=True)
    ]
    return [{"type": "batch"}, {"type": "channel", "channel_names": list(channels)}, *space]


def _weights(export: Export, folder: Path) -> dict[str, Any]:
    import onnx

    opsets = onnx.load(folder / ONNX, load_external_data=False).opset_import
    architecture = export.architecture.as_dict()
    return {
        "pytorch_state_dict": {
            **_source(folder / WEIGHTS),
            "pytorch_version": torch.__version__.partition("+")[0],
            "architecture": {
                **_source(folder / CODE),
                "callable": StandaloneVgg3D.__name__,
                "kwargs": {
                    **{name: _listed(architecture[name]) for name in _KEYWORDS},
                    "layers": list(export.layers),
                },
            },
        },
        "onnx": {
            **_source(folder / ONNX),
            "parent": "pytorch_state_dict",
            "opset_version": next(o.version for o in opsets if o.domain in ("", "ai.onnx")),
        },
    }


def _listed(value: Any) -> Any:
    return [_listed(part) for part in value] if isinstance(value, tuple) else value


def _readme(export: Export, record: TrainingRecord) -> str:
    """Return what the network is, in words, as far as that is known."""
    factors = size(export.architecture.total_downsampling)
    settings = record.settings
    known = {
        "crops": export.crop_size and f"{size(export.crop_size)} voxels (z × y × x)",
        "voxels": export.voxel_size and f"{size(export.voxel_size)} nm",
        "recipe": record.recipe,
        "started from": (record.pretrained or "random weights") if settings else None,
        **{name: settings.get(name) for name in ("objective", "num_epochs", "batch_size", "seed")},
        **{f"SHA-256 of {s['what']} ({s['hashed']})": s["sha256"] for s in record.data},
    }
    lines = "\n".join(
        f"- {name}: {'not known' if value is None else value}" for name, value in known.items()
    )
    return f"""# VGG3D for synapses

Written by napari-synapse-cl {__version__}. It turns crops, float32 `(B, 1, D, H, W)` from -1
(black) to 1 (white), whose sides are multiples of {factors} voxels, into maps of features; their
means over z, y and x are the features of a crop. What is known of its training:

{lines}

Under `config`, `rdf.yaml` holds what is known of its settings, and what black and white were.

## Authors, licence and citations

Those in `rdf.yaml` are of the program that wrote this package. Put in those of the network and of
its data before you publish it.

## Validation

Nothing here tells what its features are worth on data that it has not seen: label some synapses
there, and compare what a classifier tells by these features with what it tells by chance.
"""


def _check(path: Path, name: str, export: Export) -> None:
    """Validate a package, and run its networks on its test tensors, as who gets it will."""
    with _quietly():
        from bioimageio.spec import InvalidDescr, load_description

        described = load_description(path, perform_io_checks=True)
    if isinstance(described, InvalidDescr):
        raise JobError(
            f"{name} is not what bioimageio.spec expects, so it is not kept: "
            + " ".join(described.get_reason().split())
        )
    with zipfile.ZipFile(path) as archive:
        content = {entry: archive.read(entry) for entry in archive.namelist()}
    crops = np.load(BytesIO(content[f"{_CROPS}.npy"]))
    expected = {o.id: np.load(BytesIO(content[f"{o.id}.npy"])) for o in described.outputs}
    ours = Layers(load_backbone(path).network, export.layers)
    alone = StandaloneVgg3D(**described.weights.pytorch_state_dict.architecture.kwargs)
    alone.load_state_dict(torch.load(BytesIO(content[WEIGHTS]), weights_only=True))
    with torch.no_grad():
        runs = [network.eval()(torch.from_numpy(crops)) for network in (ours, alone)]
    runs.append([torch.from_numpy(m) for m in run_onnx(content[ONNX], None, crops)])
    for found in runs:
        for (output, maps), other in zip(expected.items(), found, strict=True):
            compare(other, torch.from_numpy(maps), name, output)


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep to itself what the zoo's library tells of what a description could have beside."""
    from loguru import logger

    logger.disable("bioimageio")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.enable("bioimageio")

"""Write a backbone for other programs; each file is read again before it takes its place."""

import json
import logging
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import safetensors.torch
import torch
from torch import Tensor, nn

from napari_synapse_cl import __version__
from napari_synapse_cl.config.fields import ExportFormat
from napari_synapse_cl.errors import InputError, JobError, reason
from napari_synapse_cl.models.architecture import Architecture
from napari_synapse_cl.models.checkpoints import DESCRIPTION, DIGEST, Backbone, digest
from napari_synapse_cl.models.vgg3d import Vgg3D
from napari_synapse_cl.system.files import replacing

StateOrGraph = Literal["pt", "safetensors", "onnx"]
"""Formats of :func:`export_network`."""
_PACKAGES = {
    "onnx": ("onnx", "onnxruntime", "onnxscript"),
    "bioimageio": ("bioimageio.spec", "onnx", "onnxruntime", "onnxscript"),
}
"""What a format needs beside the program's own dependencies."""
ROUNDING = 1e-4
"""Difference to a network's own output, relative to its largest value, that rounding explains."""
_LARGEST_ONNX_BYTES = 2**31 - 2**20
"""Protocol buffers hold less than 2 GiB; some of it is the graph."""


@dataclass(frozen=True)
class Export(Backbone):
    """What is exported: a backbone on the CPU and in evaluation."""

    classifier: Mapping[str, Tensor]
    """Tensors by name that state dicts hold too: those of the classifier that the network had
    before it was trained here, or none."""
    layers: Sequence[int]
    """Indices into ``features`` of the layers that become outputs in ONNX."""

    @property
    def state(self) -> dict[str, Tensor]:
        """All tensors of state dicts by name, contiguous."""
        tensors = {**self.network.state_dict(), **self.classifier}
        return {name: _plain(tensor) for name, tensor in tensors.items()}

    @property
    def description(self) -> dict[str, str]:
        """What a state dict does not say of its network; all but the version is JSON."""
        return {
            DESCRIPTION: __version__,
            "architecture": json.dumps(self.architecture.as_dict()),
            "crop_size": json.dumps(self.crop_size),
            "voxel_size": json.dumps(self.voxel_size),
            "crop_settings": json.dumps(self.crop_settings),
        }


Writer = Callable[[Path, Export], None]
Checker = Callable[[Path, str, Export], None]


def check_export(formats: Collection[ExportFormat], network: nn.Module) -> None:
    """Check, before a long job begins, that a network can be exported here.

    Raises
    ------
    InputError
        If what a format needs is not installed, or the network is too large for it.
    """
    needing = [name for name in _PACKAGES if name in formats]
    for kind in needing:
        missing = [name for name in _PACKAGES[kind] if not _is_installed(name)]
        if missing:
            raise InputError(
                f"an export as {kind} needs {' and '.join(missing)}, which is not installed: "
                f'pip install "napari-synapse-cl[{kind}]", or leave {kind} out of export'
            )
    if not needing:
        return
    size = sum(tensor.nbytes for tensor in network.state_dict().values())
    if size > _LARGEST_ONNX_BYTES:
        raise InputError(
            f"this network has {size / 2**30:.1f} GiB of weights and an ONNX file holds less than "
            f"2 GiB: leave {' and '.join(needing)} out of export, or choose fewer fmaps"
        )


def _is_installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    # Of a package that is not there it cannot look for a part.
    except ModuleNotFoundError:
        return False


def export_network(path: Path, kind: StateOrGraph, export: Export) -> None:
    """Write a network, whole or not at all.

    Parameters
    ----------
    kind
        "pt" and "safetensors" are state dicts; "onnx" is the network that turns ``crops``, float32
        ``(B, 1, D, H, W)`` in [−1, 1], into ``(B, C, d, h, w)``: ``L20`` and so on for each layer,
        and ``features`` for the last map.

    Raises
    ------
    OSError
        If the disk does not take it.
    JobError
        If it cannot be written in this format, or the file is not the network when read again;
        nothing is kept of it then.
    """
    write_checked(path, export, _WRITERS[kind], _check_onnx if kind == "onnx" else _check_state)


def write_checked(path: Path, export: Export, write: Writer, check: Checker) -> None:
    """Write a file and read it again before it takes its place.

    Parameters
    ----------
    write
        Writes the export to a path.
    check
        Is given the path that was written, the name for messages, and the export.

    Raises
    ------
    OSError, JobError
        As :func:`export_network`.
    """
    with replacing(path) as temporary:
        write(temporary, export)
        try:
            check(temporary, path.name, export)
        except JobError:
            raise
        # Whatever it is, and each library has errors of its own: this is no file to keep.
        except Exception as error:
            raise JobError(
                f"{path.name} was written and cannot be read again, so it is not kept: "
                f"{reason(error)}"
            ) from error


def _plain(tensor: Tensor) -> Tensor:
    if tensor.is_floating_point():
        tensor = tensor.float()
    return tensor.detach().cpu().contiguous()


def write_pt(path: Path, export: Export) -> None:
    """Write a state dict for PyTorch."""
    state = export.network.state_dict()
    state.update(export.state)
    # PyTorch keeps versions of modules here; a state dict has no other place that is not a tensor.
    state._metadata[DESCRIPTION] = export.description  # type: ignore[attr-defined]
    # Given a name, it would keep that of the temporary file, and not say why a disk takes nothing.
    with path.open("wb") as file:
        torch.save(state, file)


def _write_safetensors(path: Path, export: Export) -> None:
    state, description = export.state, export.description
    described = {**description, DIGEST: digest(state, description)}
    path.write_bytes(safetensors.torch.save(state, described))


class Layers(nn.Module):
    """The maps of some layers, in their order, and the last map."""

    def __init__(self, network: Vgg3D, layers: Sequence[int]) -> None:
        super().__init__()
        self.network = network
        self.layers = layers

    def forward(self, crops: Tensor) -> tuple[Tensor, ...]:
        """Return maps ``(B, C, d, h, w)`` of ``(B, 1, D, H, W)``."""
        last = len(self.network.features) - 1
        # A ReLU would overwrite what the batch norm before it has put out.
        maps = {
            index: output.clone()
            for index, output in self.network.iterate_layers(crops, [*self.layers, last])
        }
        return *(maps[index] for index in self.layers), maps[last].clone()


def write_onnx(path: Path, export: Export) -> None:
    """Write the network that :class:`Layers` is, for ONNX."""
    import onnx

    # Twice the smallest: a map of one element would be taken for one of a fixed size.
    crops = torch.zeros(2, 1, *(2 * size for size in export.architecture.total_downsampling))
    with _quietly():
        try:
            program = torch.onnx.export(
                Layers(export.network, export.layers).eval(),
                (crops,),
                input_names=["crops"],
                output_names=output_names(export),
                dynamic_shapes={"crops": {0: "batch", 2: "depth", 3: "height", 4: "width"}},
                dynamo=True,
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as error:
            raise JobError(f"PyTorch cannot export this network as ONNX: {error}") from error
    assert program is not None
    model = program.model_proto
    # These tell by which lines of code, in whose folders, each of them came about.
    for described in (*model.graph.node, *model.graph.input, *model.graph.value_info):
        del described.metadata_props[:]
    onnx.helper.set_model_props(model, export.description)
    path.write_bytes(model.SerializeToString())


_WRITERS: dict[StateOrGraph, Writer] = {
    "pt": write_pt,
    "safetensors": _write_safetensors,
    "onnx": write_onnx,
}


def _check_state(path: Path, name: str, export: Export) -> None:
    """Check a state dict by a network that is made of nothing else."""
    if path.suffix == ".pt":
        written: dict[str, Tensor] = torch.load(path, weights_only=True)
    else:
        written = safetensors.torch.load(path.read_bytes())
    network = Vgg3D.from_architecture(export.architecture)
    for tensor_name, tensor in export.classifier.items():
        compare(written.pop(tensor_name), _plain(tensor), name, tensor_name)
    network.load_state_dict(written)
    network.eval()
    for crops in _test_inputs(export.architecture):
        with torch.no_grad():
            found = network.features(crops)
            compare(found, export.network.features(crops), name, "features")


def _check_onnx(path: Path, name: str, export: Export) -> None:
    """Check a network of ONNX by running it, on two sizes of crops and of batches."""
    import onnx

    # Neither library opens a file whose name is not UTF-8.
    content = path.read_bytes()
    onnx.checker.check_model(content, full_check=True)
    names, features = output_names(export), export.network.features
    for crops in _test_inputs(export.architecture):
        found = run_onnx(content, names, crops.numpy())
        ends = [*(index + 1 for index in export.layers), len(features)]
        for output, maps, end in zip(names, found, ends, strict=True):
            with torch.no_grad():
                compare(torch.from_numpy(maps), features[:end](crops), name, output)


def run_onnx(
    content: bytes, names: Sequence[str] | None, crops: npt.NDArray[np.float32]
) -> list[npt.NDArray[np.float32]]:
    """Return outputs ``(B, C, d, h, w)`` of a network of ONNX for crops ``(B, 1, D, H, W)``.

    Parameters
    ----------
    content
        Of its file.
    names
        Those of the outputs; None for all in their order.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return session.run(names, {"crops": crops})


def output_names(export: Export) -> list[str]:
    """Return what the outputs of :class:`Layers` are called."""
    return [*(f"L{index}" for index in export.layers), "features"]


def _test_inputs(architecture: Architecture) -> Iterator[Tensor]:
    """Yield random crops, always the same, in two batches of different sizes."""
    z, y, x = architecture.total_downsampling
    generator = torch.Generator().manual_seed(0)
    for shape in ((1, 1, z, y, x), (2, 1, z, 2 * y, x)):
        yield torch.rand(shape, generator=generator) * 2 - 1


def compare(found: Tensor, expected: Tensor, file: str, output: str) -> None:
    """Check that a file that was read again puts out what it should, but for rounding.

    Raises
    ------
    JobError
        If it does not.
    """
    scale = float(expected.abs().max())
    if found.shape == expected.shape:
        difference = float((found - expected).abs().max())
        # Written so that what is not a number is refused.
        if difference <= ROUNDING * scale:
            return
        how = f"up to {difference:.2g} off, with values up to {scale:.2g}"
    else:
        how = f"of shape {tuple(found.shape)} and not {tuple(expected.shape)}"
    raise JobError(
        f"{file} was read again and is not the network, so it is not kept: its {output} is {how}"
    )


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep to itself what PyTorch's exporter tells of packages that are not needed."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)

"""Checkpoints people already have are read, and what is none is refused without running it."""

import io
import os
import pickle
import zipfile
from pathlib import Path
from typing import IO, Any

import joblib
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from napari_synapse_cl.config import Config
from napari_synapse_cl.data.tables import read_table
from napari_synapse_cl.data.volumes import open_volume
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.models.architecture import Architecture
from napari_synapse_cl.models.checkpoints import load_backbone, load_checkpoint, save_checkpoint
from napari_synapse_cl.models.vgg3d import Vgg3D
from napari_synapse_cl.pipeline.extraction_preparation import prepare_extraction
from napari_synapse_cl.system.words import Triple

ISOTROPIC = ((2, 2, 2),) * 4
ANISOTROPIC = ((1, 2, 2), (1, 2, 2), (1, 2, 2), (2, 2, 2))


def foreign_state(
    input_size: Triple, fmaps: int, factors: tuple[Triple, ...], n_convolutions: tuple[int, ...]
) -> dict[str, torch.Tensor]:
    """A state dict as synister writes it, but for a classifier of one hidden unit a layer."""
    with torch.device("meta"):
        network = Vgg3D(input_size, fmaps, factors, n_convolutions=n_convolutions)
    shapes = {
        name: tensor.shape if tensor.ndim != 2 else (1, tensor.shape[1])
        for name, tensor in network.state_dict().items()
    }
    return {name: torch.rand(shape) if shape else torch.tensor(1) for name, shape in shapes.items()}


@pytest.fixture(scope="module")
def isotropic() -> dict[str, torch.Tensor]:
    """A small network of 80³, as its state dict."""
    return foreign_state((80, 80, 80), 1, ISOTROPIC, (4, 2, 2, 2))


@pytest.mark.parametrize("prefix", ["", "module.", "backbone.", "model.", "module.backbone."])
@pytest.mark.parametrize(
    "wrapped",
    [
        lambda state: state,
        lambda state: {"model_state_dict": state, "epoch": 3},
        lambda state: {"state_dict": state},
        lambda state: {"state_dict": {"model_state_dict": state}},
    ],
    ids=["bare", "model_state_dict", "state_dict", "nested"],
)
def test_a_state_dict_loads_with_or_without_prefix_and_wrapping(
    isotropic: dict, prefix: str, wrapped: Any, tmp_path: Path
) -> None:
    state = {prefix + name: tensor for name, tensor in isotropic.items()}
    file = tmp_path / "checkpoint.pt"
    torch.save(wrapped(state), file)
    backbone = load_backbone(file)
    assert backbone.architecture == Architecture((1, 2, 4, 8), (4, 2, 2, 2))
    assert backbone.crop_size == (80, 80, 80)
    for name, tensor in backbone.network.state_dict().items():
        assert torch.equal(tensor, isotropic[name])


@pytest.mark.parametrize(
    ("input_size", "fmaps", "factors", "n_convolutions"),
    [
        pytest.param((80, 80, 80), 24, ISOTROPIC, (4, 2, 2, 2), id="hemibrain"),
        pytest.param((16, 160, 160), 16, ANISOTROPIC, (2, 2, 2, 2), id="FAFB"),
        pytest.param((16, 160, 160), 12, ANISOTROPIC, (2, 2, 2, 2), id="synister's example"),
        pytest.param((80, 80, 80), 16, ISOTROPIC, (2, 2, 2, 2), id="male nerve cord"),
        pytest.param((64, 64, 64), 32, ISOTROPIC, (2, 2, 2, 2), id="funlib's default"),
        pytest.param((96, 96, 96), 2, ISOTROPIC[:3], (1, 1, 1), id="another cube"),
    ],
)
def test_architecture_and_input_size_are_told_by_the_tensors(
    input_size: Triple,
    fmaps: int,
    factors: tuple[Triple, ...],
    n_convolutions: tuple[int, ...],
    tmp_path: Path,
) -> None:
    if len(factors) == 4:
        state = foreign_state(input_size, fmaps, factors, n_convolutions)
    else:
        architecture = Architecture((2, 4, 8), n_convolutions, factors)
        state = dict(Vgg3D.from_architecture(architecture).state_dict())
        state["classifier.0.weight"] = torch.zeros(1, 8 * 12**3)
    torch.save(state, tmp_path / "c.pt")
    backbone = load_backbone(tmp_path / "c.pt")
    widths = tuple(fmaps * 2**stage for stage in range(len(factors)))
    assert backbone.architecture == Architecture(widths, n_convolutions, factors)
    assert backbone.crop_size == input_size
    assert backbone.voxel_size is None
    assert backbone.crop_settings == {}


def test_without_a_classifier_the_input_size_is_not_known(isotropic: dict, tmp_path: Path) -> None:
    state = {name: t for name, t in isotropic.items() if name.startswith("features.")}
    torch.save(state, tmp_path / "c.pt")
    backbone = load_backbone(tmp_path / "c.pt")
    assert backbone.crop_size is None
    assert backbone.architecture.downsample_factors == ISOTROPIC


def test_an_extraction_takes_the_input_size_of_the_network(tmp_path: Path) -> None:
    torch.save(foreign_state((16, 160, 160), 1, ANISOTROPIC, (2, 2, 2, 2)), tmp_path / "c.pt")
    np.save(tmp_path / "image.npy", np.zeros((32, 200, 200), np.uint8))
    (tmp_path / "synapses.csv").write_text("z,y,x\n16,100,100\n")
    settings = {
        "extract_only": True,
        "checkpoint": str(tmp_path / "c.pt"),
        "image": str(tmp_path / "image.npy"),
        "synapses": str(tmp_path / "synapses.csv"),
        "output": str(tmp_path / "out"),
        "device": "cpu",
        "precision": "float32",
    }
    assert prepare_extraction(Config.from_values(settings)).config.crop_size == (16, 160, 160)


def test_what_lies_beside_the_state_dict_is_let_pass(isotropic: dict, tmp_path: Path) -> None:
    weight = torch.nn.Parameter(torch.zeros(3))
    optimizer = torch.optim.Adam([weight])
    weight.sum().backward()
    optimizer.step()
    content = {
        "iteration": np.int64(5),
        "loss": np.float32(0.25),
        "best": np.bool_(True),
        "model_state_dict": isotropic,
        "optimizer_state_dict": optimizer.state_dict(),
        "architecture": "vgg",
    }
    torch.save(content, tmp_path / "c.pt")
    assert load_backbone(tmp_path / "c.pt").crop_size == (80, 80, 80)
    read = load_checkpoint(tmp_path / "c.pt")
    assert (read["iteration"], read["loss"], read["best"]) == (5, 0.25, True)


def test_numbers_of_numpy_1_are_read(isotropic: dict, tmp_path: Path) -> None:
    file = tmp_path / "c.pt"
    content = {"iteration": np.int64(5), **isotropic}
    torch.save(content, file, _use_new_zipfile_serialization=False)
    written = file.read_bytes()
    assert b"numpy._core.multiarray" in written
    file.write_bytes(written.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    assert load_checkpoint(file)["iteration"] == 5


@pytest.mark.parametrize(
    "architecture",
    [
        Architecture((3, 6, 12), (1, 3, 2), ((2, 2, 2),) * 3),
        Architecture((2, 4), (2, 1), ((1, 2, 2), (2, 2, 2))),
    ],
)
def test_our_own_checkpoints_keep_any_architecture(
    architecture: Architecture, tmp_path: Path
) -> None:
    network = Vgg3D.from_architecture(architecture)
    save_checkpoint(tmp_path / "c.pt", network, architecture, step=7)
    backbone = load_backbone(tmp_path / "c.pt")
    assert backbone.architecture == architecture
    assert load_checkpoint(tmp_path / "c.pt")["step"] == 7
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, backbone.network.state_dict()[name])


def test_our_own_checkpoints_say_what_crops_they_were_trained_on(tmp_path: Path) -> None:
    architecture = Architecture((2, 4), (2, 1), ((1, 2, 2), (2, 2, 2)))
    config = Config.from_values(
        {"crop_size": (8, 16, 16), "voxel_size": (10, 4, 4), "intensity": "crop", "seed": 3}
    )
    resampled = config.model_copy(update={"network_voxel_size": (8.0, 8.0, 8.0)})
    network = Vgg3D.from_architecture(architecture)
    for file, settings in (("a.pt", config), ("b.pt", resampled)):
        save_checkpoint(tmp_path / file, network, architecture, config=settings.as_json())
    backbone = load_backbone(tmp_path / "a.pt")
    assert backbone.crop_size == (8, 16, 16)
    assert backbone.voxel_size == (10, 4, 4)
    assert load_backbone(tmp_path / "b.pt").voxel_size == (8, 8, 8)
    assert backbone.crop_settings["intensity"] == "crop"
    assert not {"crop_size", "network_voxel_size", "seed"} & backbone.crop_settings.keys()


class Malicious:
    """Would make a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("plain_pickle", [True, False])
def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(
    plain_pickle: bool, tmp_path: Path
) -> None:
    file, trace = tmp_path / "c.pt", tmp_path / "trace"
    content = {"iteration": np.int64(5), "model_state_dict": Malicious(trace)}
    if plain_pickle:
        file.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, file)
    with pytest.raises(InputError, match="could run code") as refused:
        load_backbone(file)
    assert not trace.exists()
    assert plain_pickle or ".mkdir)" in str(refused.value), "what would be called is named"


def test_a_file_of_joblib_is_refused_and_does_not_run(tmp_path: Path) -> None:
    file, trace = tmp_path / "c.joblib", tmp_path / "trace"
    joblib.dump({"model_state_dict": Malicious(trace)}, file)
    with pytest.raises(InputError, match="could run code"):
        load_backbone(file)
    with pytest.raises(InputError, match=r"c\.joblib"):
        open_volume(file)
    with pytest.raises(InputError, match=r"c\.joblib is no table that can be read"):
        read_table(file)
    assert not trace.exists()


class Record:
    """Any class that a pickle would make an instance of."""


@pytest.mark.parametrize("value", [Record(), np.array(["text"], object)], ids=["object", "array"])
def test_what_is_no_plain_value_is_refused(value: Any, isotropic: dict, tmp_path: Path) -> None:
    torch.save({"model_state_dict": isotropic, "more": value}, tmp_path / "c.pt")
    with pytest.raises(InputError, match="could run code"):
        load_backbone(tmp_path / "c.pt")


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.99])
def test_a_truncated_file_is_refused(isotropic: dict, share: float, tmp_path: Path) -> None:
    file = tmp_path / "c.pt"
    torch.save(isotropic, file)
    file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
    with pytest.raises(InputError, match="damaged or cut off"):
        load_backbone(file)


EMPTY = {"fmaps": [], "n_convolutions": [], "downsample_factors": [], "input_fmaps": 1}


def without(name: str) -> Any:
    return lambda state: {n: t for n, t in state.items() if n != name}


def replaced(name: str, tensor: torch.Tensor) -> Any:
    return lambda state: {**state, name: tensor}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("features.3.weight"), "no VGG3D"),
        (without("features.4.bias"), r"features\.4\.bias should be \(1,\) and is missing"),
        (replaced("features.0.bias", torch.zeros(7)), r"should be \(1,\) and is \(7,\)"),
        (replaced("features.99.bias", torch.zeros(7)), "unexpected features.99.bias"),
        (replaced("features.0.weight", torch.zeros(1, 2, 3, 3, 3)), "2 channels"),
        (replaced("features.0.bias", torch.tensor([torch.nan])), "not finite"),
        (replaced("classifier.0.weight", torch.zeros(4, 8 * 7)), "pooling cannot be told"),
        (replaced("classifier.0.weight", torch.zeros(4)), "pooling cannot be told"),
        (lambda state: {"conv1.weight": torch.zeros(3)}, r"found conv1\.weight \(3,\)"),
        (
            lambda state: {"projection.0.weight": torch.zeros(8, 192)},
            r"found linear layers alone, as of a projection head: projection\.0\.weight \(8, 192\)",
        ),
        (
            lambda state: {"features.0.weight": torch.zeros(64, 3, 3, 3)},
            r"found a network for 2D images: features\.0\.weight \(64, 3, 3, 3\)",
        ),
        (lambda state: {**state, "architecture": {"fmaps": [1]}}, "describes no architecture"),
        (lambda state: {**state, "architecture": EMPTY}, "describes no architecture"),
        (lambda state: {"a": 1}, "found no tensors"),
    ],
)
def test_a_network_that_does_not_fit_is_refused_with_what_was_found(
    isotropic: dict, change: Any, message: str, tmp_path: Path
) -> None:
    torch.save(change(isotropic), tmp_path / "c.pt")
    with pytest.raises(InputError, match=message):
        load_backbone(tmp_path / "c.pt")


def zipped(*names: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name in names:
            archive.writestr(name, "")
    return content.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a PyTorch checkpoint"),
        (b"PK\x03\x04 nor this", "not a PyTorch checkpoint"),
        (b"\x89HDF\r\n\x1a\n", "not a PyTorch checkpoint"),
        (b"\x80\x02nor this", "(refused|not a PyTorch checkpoint)"),
        ("kein Prüfpunkt\n".encode(), "a text file and no checkpoint"),
        (b"\n<!DOCTYPE html><html></html>", "a web page and no checkpoint"),
        (zipped("c.pt"), "a zip archive and no checkpoint"),
        (zipped("c/data.pkl", "c/constants.pkl"), "a TorchScript archive"),
    ],
)
def test_a_file_that_is_none_is_refused_with_what_it_is(
    content: bytes, message: str, tmp_path: Path
) -> None:
    (tmp_path / "c.pt").write_bytes(content)
    with pytest.raises(InputError, match=rf"c\.pt is {message}"):
        load_checkpoint(tmp_path / "c.pt")


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder"):
        load_checkpoint(tmp_path)


def test_safetensors_are_read_and_refused_where_they_are_cut_off(
    isotropic: dict, tmp_path: Path
) -> None:
    file = tmp_path / "c.safetensors"
    save_file(isotropic, file)
    assert load_backbone(file).crop_size == (80, 80, 80)
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(InputError, match="damaged or cut off"):
        load_backbone(file)


def test_a_missing_file_and_a_lone_tensor_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no checkpoint"):
        load_checkpoint(tmp_path / "c.pt")
    torch.save(torch.zeros(3), tmp_path / "t.pt")
    with pytest.raises(InputError, match="holds a Tensor"):
        load_checkpoint(tmp_path / "t.pt")


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    architecture = Architecture((1, 2), (1, 1), ((2, 2, 2),) * 2)
    network = Vgg3D.from_architecture(architecture)
    file = tmp_path / "c.pt"
    save_checkpoint(file, network, architecture, step=1)

    def full_disk(content: Any, target: IO[bytes]) -> None:
        target.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(OSError, match="No space"):
        save_checkpoint(file, network, architecture, step=2)
    assert load_checkpoint(file)["step"] == 1
    assert list(tmp_path.iterdir()) == [file]

"""Checkpoints people already have are read, and what is none is refused without running it."""

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from napari_synapse_cl.errors import InputError
from napari_synapse_cl.models.architecture import Architecture
from napari_synapse_cl.models.checkpoints import load_backbone, load_checkpoint, save_checkpoint
from napari_synapse_cl.models.vgg3d import Vgg3D

ANISOTROPIC = ((1, 2, 2), (1, 2, 2), (1, 2, 2), (2, 2, 2))


@pytest.fixture(scope="module")
def isotropic() -> dict[str, torch.Tensor]:
    """A state dict as synister writes it, but for narrower tensors: the classifier's inputs fit."""
    network = Vgg3D((80, 80, 80), fmaps=1)
    return {name: tensor.half() if tensor.ndim == 2 else tensor for name, tensor in
            network.state_dict().items()}  # fmt: skip


@pytest.mark.parametrize("prefix", ["", "module.", "backbone.", "model.", "module.backbone."])
@pytest.mark.parametrize("wrapped", [True, False], ids=["model_state_dict", "bare"])
def test_a_state_dict_loads_with_or_without_prefix_and_wrapping(
    isotropic: dict, prefix: str, wrapped: bool, tmp_path: Path
) -> None:
    state = {prefix + name: tensor for name, tensor in isotropic.items()}
    file = tmp_path / "checkpoint.pt"
    torch.save({"model_state_dict": state, "epoch": 3} if wrapped else state, file)
    backbone = load_backbone(file)
    assert backbone.architecture == Architecture((1, 2, 4, 8), (4, 2, 2, 2))
    for name, tensor in backbone.network.state_dict().items():
        assert torch.equal(tensor, isotropic[name])


def test_the_anisotropic_network_is_told_by_its_classifier(tmp_path: Path) -> None:
    network = Vgg3D((16, 160, 160), 1, ANISOTROPIC, n_convolutions=(2, 2, 2, 2))
    torch.save(network.state_dict(), tmp_path / "c.pt")
    architecture = load_backbone(tmp_path / "c.pt").architecture
    assert architecture.downsample_factors == ANISOTROPIC
    assert architecture.n_convolutions == (2, 2, 2, 2)


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
    content = {"model_state_dict": Malicious(trace)}
    if plain_pickle:
        file.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, file)
    with pytest.raises(InputError, match="could run code"):
        load_backbone(file)
    assert not trace.exists()


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.99])
def test_a_truncated_file_is_refused(isotropic: dict, share: float, tmp_path: Path) -> None:
    file = tmp_path / "c.pt"
    torch.save(isotropic, file)
    file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
    with pytest.raises(InputError, match="damaged or cut off"):
        load_backbone(file)


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
        (lambda state: {"conv1.weight": torch.zeros(3)}, r"found conv1\.weight \(3,\)"),
        (lambda state: {"a": 1}, "found no tensors"),
    ],
)
def test_a_network_that_does_not_fit_is_refused_with_what_was_found(
    isotropic: dict, change: Any, message: str, tmp_path: Path
) -> None:
    torch.save(change(isotropic), tmp_path / "c.pt")
    with pytest.raises(InputError, match=message):
        load_backbone(tmp_path / "c.pt")


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04 nor this"])
def test_a_file_that_is_none_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "c.pt").write_bytes(content)
    with pytest.raises(InputError, match=r"c\.pt"):
        load_checkpoint(tmp_path / "c.pt")


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

    def full_disk(content: Any, target: Path) -> None:
        Path(target).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(OSError, match="No space"):
        save_checkpoint(file, network, architecture, step=2)
    assert load_checkpoint(file)["step"] == 1
    assert list(tmp_path.iterdir()) == [file]

"""Exports are the network: read again by other means they compute what it computes."""

import errno
import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from conftest import SMALL, Files, as_flags, full_disk
from napari_synapse_cl import __version__
from napari_synapse_cl.cli import main
from napari_synapse_cl.config import Config
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.models import export_formats, vgg3d
from napari_synapse_cl.models.architecture import Architecture
from napari_synapse_cl.models.checkpoints import load_backbone, load_checkpoint, save_checkpoint
from napari_synapse_cl.models.export_formats import check_export
from napari_synapse_cl.models.vgg3d import Vgg3D
from napari_synapse_cl.pipeline import run
from napari_synapse_cl.runs.events import Control, Message, Wrote
from napari_synapse_cl.runs.folder import RunFolder
from napari_synapse_cl.system import files

ARCHITECTURE = Architecture((2, 4), (1, 2), ((2, 2, 2),) * 2)
LAYERS = (10, 1, 4)
"""The last, a batch norm that a ReLU follows, and a convolution."""
STATE_DICTS = ("pt", "safetensors")


@pytest.fixture(scope="module", autouse=True)
def small_classifier() -> Iterator[None]:
    """Classifiers of a few hidden units: those of the original take a second to write."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vgg3d, "_HIDDEN_UNITS", 8)
        yield


def original() -> Vgg3D:
    """A network of the class that pretrained networks come from, with new weights."""
    return Vgg3D(
        input_size=(16, 16, 16),
        fmaps=2,
        downsample_factors=((2, 2, 2),) * 2,
        fmap_inc=(2, 2),
        n_convolutions=(1, 2),
        output_classes=3,
    )


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("pretrained") / "original.checkpoint"
    torch.save({"model_state_dict": original().state_dict(), "iteration": 3}, path)
    return path


def data_flags(files: Files, output: Path) -> list[str]:
    image, table = files
    named = {"image": image, "synapses": table, "output": output, "voxel_size": 10}
    return ["--no-figures", *as_flags({**SMALL, **named})]


@pytest.fixture(scope="module")
def trained(
    sample_files: Files, pretrained: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The folder of a run that exported its network in all formats."""
    folder = tmp_path_factory.mktemp("exported") / "run"
    flags = [*data_flags(sample_files, folder), "--pretrained", str(pretrained)]
    layers = ["--layer_num", *map(str, LAYERS)]
    assert main([*flags, *layers, "--export", *STATE_DICTS, "onnx", "--invert"]) == 0
    return folder


def export(checkpoint: Path, output: Path, *more: str) -> int:
    kinds = () if "--export" in more else ("--export", *STATE_DICTS)
    named = ("--export_only", "--checkpoint", str(checkpoint), "--output", str(output))
    return main([*named, *kinds, *more])


def tensors_of(path: Path) -> dict[str, Tensor]:
    return load_file(path) if path.suffix == ".safetensors" else torch.load(path)


def same(one: dict[str, Tensor], other: dict[str, Tensor], part: str) -> bool:
    """Whether two state dicts have the same tensors of a part."""
    names = {name for name in (*one, *other) if name.startswith(part)}
    return bool(names) and all(torch.equal(one[name], other[name]) for name in names)


class TestStateDicts:
    @pytest.mark.parametrize("kind", STATE_DICTS)
    def test_they_load_strictly_into_the_class_that_the_network_comes_from(
        self, kind: str, trained: Path, pretrained: Path
    ) -> None:
        state = tensors_of(trained / f"vgg3d.{kind}")
        network = original()
        network.load_state_dict(state)
        now = load_checkpoint(trained / "checkpoints" / "last.pt")["model_state_dict"]
        before = torch.load(pretrained)["model_state_dict"]
        assert same(network.state_dict(), now, "features.")
        assert not same(network.state_dict(), before, "features.")
        assert same(network.state_dict(), before, "classifier.")

    def test_they_are_bare_contiguous_and_the_same_in_both_formats(self, trained: Path) -> None:
        bare = torch.load(trained / "vgg3d.pt")
        assert same(bare, load_file(trained / "vgg3d.safetensors"), "")
        for tensor in bare.values():
            assert tensor.is_contiguous()
            assert tensor.dtype in (torch.float32, torch.int64)

    @pytest.mark.parametrize("kind", STATE_DICTS)
    def test_they_are_read_here_as_the_checkpoint_is(self, kind: str, trained: Path) -> None:
        expected = load_backbone(trained / "checkpoints" / "last.pt")
        found = load_backbone(trained / f"vgg3d.{kind}")
        assert same(found.network.state_dict(), expected.network.state_dict(), "")
        for name in ("architecture", "crop_size", "voxel_size", "crop_settings"):
            assert getattr(found, name) == getattr(expected, name), name
        assert found.crop_settings["invert"] is True

    def test_safetensors_and_onnx_say_in_words_what_their_network_is(self, trained: Path) -> None:
        with safe_open(trained / "vgg3d.safetensors", framework="np") as file:
            said = file.metadata()
        assert said["napari-synapse-cl"] == __version__
        assert json.loads(said["architecture"])["fmaps"] == [2, 4]
        assert json.loads(said["crop_size"]) == [16, 16, 16]
        assert json.loads(said["voxel_size"]) == [10, 10, 10]
        session = onnxruntime.InferenceSession(trained / "vgg3d.onnx")
        # ONNX files carry no hash.
        assert said.pop("sha256")
        assert session.get_modelmeta().custom_metadata_map == said

    @pytest.mark.parametrize("kind", STATE_DICTS)
    def test_pooling_which_no_tensor_tells_survives(self, kind: str, tmp_path: Path) -> None:
        anisotropic = Architecture((2, 4), (1, 1), ((1, 2, 2), (2, 2, 2)))
        random = tmp_path / "random.pt"
        save_checkpoint(random, Vgg3D.from_architecture(anisotropic), anisotropic)
        assert export(random, tmp_path) == 0
        assert load_backbone(tmp_path / f"vgg3d.{kind}").architecture == anisotropic

    def test_what_others_write_into_safetensors_is_none_of_ours(
        self, trained: Path, tmp_path: Path
    ) -> None:
        from safetensors.torch import save_file

        state = load_file(trained / "vgg3d.safetensors")
        save_file(state, tmp_path / "c.safetensors", {"architecture": "vgg"})
        assert load_backbone(tmp_path / "c.safetensors").architecture == ARCHITECTURE

    def test_a_description_that_is_none_is_refused(self, trained: Path, tmp_path: Path) -> None:
        from safetensors.torch import save_file

        state = load_file(trained / "vgg3d.safetensors")
        for said in ({}, {"crop_size": "[", "voxel_size": "", "architecture": "{}"}):
            save_file(state, tmp_path / "c.safetensors", {"napari-synapse-cl": "1", **said})
            with pytest.raises(InputError, match=r"c\.safetensors"):
                load_backbone(tmp_path / "c.safetensors")


class TestOnnx:
    @pytest.mark.parametrize("shape", [(1, 1, 16, 16, 16), (3, 1, 8, 20, 12)])
    def test_it_puts_out_each_layer_for_batches_and_crops_of_any_size(
        self, shape: tuple[int, ...], trained: Path
    ) -> None:
        crops = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
        network = load_backbone(trained / "checkpoints" / "last.pt").network.eval()
        session = onnxruntime.InferenceSession(trained / "vgg3d.onnx")
        names = [output.name for output in session.get_outputs()]
        assert names == ["L10", "L1", "L4", "features"]
        found = dict(zip(names, session.run(None, {"crops": crops}), strict=True))
        assert np.array_equal(found["features"], found["L10"])
        for layer in LAYERS:
            with torch.no_grad():
                expected = network.features[: layer + 1](torch.from_numpy(crops)).numpy()
            assert np.allclose(found[f"L{layer}"], expected, rtol=1e-4, atol=1e-5)

    def test_it_tells_nothing_of_the_computer_it_was_made_on(self, trained: Path) -> None:
        content = (trained / "vgg3d.onnx").read_bytes()
        assert b"site-packages" not in content
        assert Path(export_formats.__file__).name.encode() not in content

    def test_a_layer_that_is_not_there_is_refused(
        self, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert export(trained, tmp_path / "e", "--export", "onnx", "--layer_num", "11") == 2
        assert "there is no layer 11" in capsys.readouterr().err
        assert not (tmp_path / "e").exists()

    def test_a_network_that_is_too_large_for_it_is_refused(self) -> None:
        with torch.device("meta"):
            large = Vgg3D.from_architecture(Architecture((4096,), (3,), ((2, 2, 2),)))
        check_export(STATE_DICTS, large)
        with pytest.raises(InputError, match="less than 2 GiB"):
            check_export(["onnx"], large)

    def test_without_its_packages_nothing_begins(
        self,
        sample_files: Files,
        trained: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.setitem(sys.modules, "onnxscript", None)
        assert main([*data_flags(sample_files, tmp_path / "run"), "--export", "onnx"]) == 2
        assert export(trained, tmp_path / "run", "--export", "pt", "onnx", "--layer_num", "4") == 2
        told = capsys.readouterr().err
        assert (
            told.count('onnxscript, which is not installed: pip install "napari-synapse-cl[') == 2
        )
        assert not (tmp_path / "run").exists()


class TestExportOnly:
    def test_the_network_that_a_run_started_from_is_the_pretrained_one(
        self, trained: Path, pretrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert export(trained, tmp_path, "--network", "start", "--export", "pt") == 0
        assert capsys.readouterr().out == f"Results: network {tmp_path / 'vgg3d.pt'}\n"
        assert same(
            torch.load(tmp_path / "vgg3d.pt"), torch.load(pretrained)["model_state_dict"], ""
        )

    def test_beside_the_run_it_changes_nothing_else(self, trained: Path, tmp_path: Path) -> None:
        shutil.copytree(trained, tmp_path / "run")
        (tmp_path / "run" / "vgg3d.pt").unlink()
        assert export(tmp_path / "run", tmp_path / "run", "--export", "pt") == 0
        files = [path for path in trained.rglob("*") if path.is_file()]
        for path in files:
            copy = tmp_path / "run" / path.relative_to(trained)
            assert copy.read_bytes() == path.read_bytes(), path.name

    def test_what_is_there_is_replaced_only_when_asked(
        self, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        there = tmp_path / "vgg3d.safetensors"
        there.write_text("mine")
        assert export(trained, tmp_path) == 2
        assert "is there already; replace it with --overwrite" in capsys.readouterr().err
        assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]
        assert export(trained, tmp_path, "--overwrite") == 0
        assert load_file(there).keys() == original().state_dict().keys()

    @pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
    def test_a_folder_whose_name_is_no_utf8_is_one_like_others(
        self, trained: Path, tmp_path: Path
    ) -> None:
        folder = tmp_path / os.fsdecode(b"caf\xe9")
        layers = ("--layer_num", "4")
        assert export(trained, folder, "--export", *STATE_DICTS, "onnx", *layers) == 0
        for kind in STATE_DICTS:
            assert export(folder / f"vgg3d.{kind}", folder / f"of {kind}") == 0

    @pytest.mark.parametrize("content", [b"a text", b"\x80nothing", b""])
    def test_a_checkpoint_that_is_no_network_is_refused(
        self, content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "c.pt").write_bytes(content)
        assert export(tmp_path / "c.pt", tmp_path / "e") == 2
        assert f"{tmp_path / 'c.pt'} is" in capsys.readouterr().err
        assert not (tmp_path / "e").exists()

    @pytest.mark.parametrize("state", [None, {"features.0.weight": torch.zeros(3, 1, 3, 3, 3)}])
    def test_without_the_original_file_the_features_are_exported_and_it_is_told(
        self, state: dict | None, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        content = load_checkpoint(trained / "checkpoints" / "last.pt")
        content["config"]["pretrained"] = str(tmp_path / "moved.pt")
        torch.save(content, tmp_path / "last.pt")
        if state is not None:
            torch.save(state, tmp_path / "moved.pt")
        assert export(tmp_path / "last.pt", tmp_path, "--export", "pt") == 0
        told = capsys.readouterr().err
        assert "Warning: the classifier of the pretrained network is missing" in told
        assert "moved.pt" in told
        written = torch.load(tmp_path / "vgg3d.pt")
        assert same(written, content["model_state_dict"], "")
        with pytest.raises(RuntimeError, match="Missing key"):
            original().load_state_dict(written)
        original().load_state_dict(written, strict=False)

    def test_stopped_it_writes_no_more_files(self, trained: Path, tmp_path: Path) -> None:
        settings = {"export_only": True, "checkpoint": trained, "output": tmp_path}
        control, told = Control(), []
        for event in run(Config.from_values({**settings, "export": STATE_DICTS}), control):
            told.append(event)
            if isinstance(event, Wrote):
                control.request("stop")
        assert told[-1] == Message(
            "the export was ended before vgg3d.safetensors was written", "warning"
        )
        assert [path.name for path in tmp_path.iterdir()] == ["vgg3d.pt"]


class TestTraining:
    def test_it_is_exported_beside_its_features(self, trained: Path) -> None:
        names = {path.name for path in trained.iterdir()}
        assert {"vgg3d.pt", "vgg3d.safetensors", "vgg3d.onnx"} < names
        assert "features_L10_L1_L4_mean.csv" in names

    def test_resumed_it_replaces_its_export(self, trained: Path, tmp_path: Path) -> None:
        folder = tmp_path / "run"
        shutil.copytree(trained, folder)
        more = ["--num_epochs", "3", "--train_only", "--export", "pt"]
        assert main(["--resume", "--output", str(folder), *more]) == 0
        now = load_checkpoint(folder / "checkpoints" / "last.pt")["model_state_dict"]
        assert same(torch.load(folder / "vgg3d.pt"), now, "features.")
        assert not same(torch.load(trained / "vgg3d.pt"), now, "features.")

    def test_a_new_one_leaves_what_is_there_already(
        self, sample_files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "vgg3d.pt").write_text("mine")
        assert main([*data_flags(sample_files, tmp_path), "--export", "pt"]) == 2
        assert "vgg3d.pt is there already" in capsys.readouterr().err
        assert [path.name for path in tmp_path.iterdir()] == ["vgg3d.pt"]

    def test_discarded_it_takes_its_export_with_it(self, trained: Path, tmp_path: Path) -> None:
        shutil.copytree(trained, tmp_path / "run")
        RunFolder(tmp_path / "run").discard()
        assert not list(tmp_path.rglob("vgg3d.*"))


class TestFailures:
    @pytest.mark.parametrize("kind", [*STATE_DICTS, "onnx"])
    def test_a_file_that_is_another_network_when_read_again_is_not_kept(
        self,
        kind: str,
        trained: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        written = (trained / f"vgg3d.{kind}").read_bytes()
        monkeypatch.setitem(
            export_formats._WRITERS, kind, lambda path, export: path.write_bytes(written)
        )
        layers = ["--layer_num", *map(str, LAYERS)]
        assert export(trained, tmp_path, "--network", "start", "--export", kind, *layers) == 1
        assert f"vgg3d.{kind} was read again and is not the network" in capsys.readouterr().err
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("kind", [*STATE_DICTS, "onnx"])
    def test_nor_is_one_that_cannot_be_read_again(
        self,
        kind: str,
        trained: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        half = (trained / f"vgg3d.{kind}").read_bytes()[:5000]
        monkeypatch.setitem(
            export_formats._WRITERS, kind, lambda path, export: path.write_bytes(half)
        )
        layers = ["--layer_num", *map(str, LAYERS)]
        assert export(trained, tmp_path, "--export", kind, *layers) == 1
        assert f"vgg3d.{kind} was written and cannot be read again" in capsys.readouterr().err
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("kind", [*STATE_DICTS, "onnx"])
    @pytest.mark.parametrize("is_late", [False, True], ids=["at once", "when all is written"])
    def test_a_full_disk_is_told(
        self,
        is_late: bool,
        kind: str,
        trained: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        replace = files._replace

        def full(source: Path, target: Path) -> None:
            if target.stem == "vgg3d":
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            replace(source, target)

        layers = ["--layer_num", *map(str, LAYERS)]
        flags = ["--export", kind, *layers]
        if is_late:
            monkeypatch.setattr(files, "_replace", full)
            assert export(trained, tmp_path, *flags) == 1
        else:
            with full_disk(2000):
                assert export(trained, tmp_path, *flags) == 1
        (line,) = (t for t in capsys.readouterr().err.splitlines() if "Warning" not in t)
        assert line.startswith("synapse-cl: error: cannot write to the run folder")
        assert "the disk is full" in line if is_late else "File too large" in line
        assert list(tmp_path.iterdir()) == []

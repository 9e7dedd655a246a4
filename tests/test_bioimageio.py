"""Packages of the BioImage Model Zoo: what is in one is the network, for others and for us."""

import ast
import importlib.util
import os
import shutil
import socket
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
import yaml

from conftest import SMALL, Bomb, Files, as_flags, full_disk
from napari_synapse_cl.cli import main
from napari_synapse_cl.config import RECIPES, Config, read_recipe
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.models import bioimageio
from napari_synapse_cl.models.architecture import Architecture
from napari_synapse_cl.models.checkpoints import load_backbone, load_checkpoint, save_checkpoint
from napari_synapse_cl.models.export_formats import Export
from napari_synapse_cl.models.vgg3d import Vgg3D
from napari_synapse_cl.pipeline.exporting import training_record
from napari_synapse_cl.pipeline.networks import open_network, open_pretrained
from napari_synapse_cl.pipeline.provenance import NetworkOrigin
from napari_synapse_cl.system.files import sha256_of

pytest.importorskip("bioimageio.spec", reason="the extra bioimageio is not installed")

NAME = "vgg3d.bioimage.io.zip"
ANISOTROPIC = ((1, 2, 2), (1, 2, 2), (1, 2, 2), (2, 2, 2))
"""Pooling that no tensor tells."""
LAYERS = (7, 3)


@pytest.fixture(scope="module")
def trained(sample_files: Files, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that exported its network as a package."""
    folder = tmp_path_factory.mktemp("zoo") / "run"
    image, table = sample_files
    named = {"image": image, "synapses": table, "output": folder, "voxel_size": 10}
    flags = as_flags({**SMALL, **named, "downsampling": "anisotropic", "export": "bioimageio"})
    layers = ["--layer_num", *map(str, LAYERS), "--n_convolutions", *"1111"]
    assert main([*flags, *layers, "--no-figures", "--train_only", "--invert"]) == 0
    return folder


@pytest.fixture(scope="module")
def unpacked(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unpacked")
    with zipfile.ZipFile(trained / NAME) as archive:
        archive.extractall(folder)
    return folder


def described(folder: Path) -> dict[str, Any]:
    return yaml.safe_load((folder / "rdf.yaml").read_text(encoding="utf-8"))


def expected_maps(folder: Path) -> list[np.ndarray]:
    return [np.load(folder / out["test_tensor"]["source"]) for out in described(folder)["outputs"]]


class TestForOthers:
    def test_the_library_of_the_zoo_finds_it_valid_without_asking_anybody(
        self, trained: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from bioimageio.spec import load_description
        from bioimageio.spec.model.v0_5 import ModelDescr

        def refuse(*_: object) -> None:
            raise AssertionError("it asks for something on the network")

        monkeypatch.setattr(socket.socket, "connect", refuse)
        found = load_description(trained / NAME, perform_io_checks=True)
        assert isinstance(found, ModelDescr)
        assert [output.id for output in found.outputs] == ["l7", "l3", "features"]

    def test_pytorch_runs_it_without_this_program(self, unpacked: Path) -> None:
        weights = described(unpacked)["weights"]["pytorch_state_dict"]
        code = unpacked / weights["architecture"]["source"]
        imports = [
            node.module if isinstance(node, ast.ImportFrom) else node.names[0].name
            for node in ast.walk(ast.parse(code.read_text(encoding="utf-8")))
            if isinstance(node, ast.Import | ast.ImportFrom)
        ]
        assert set(imports) == {"collections.abc", "torch"}
        spec = importlib.util.spec_from_file_location("of_the_package", code)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        made = getattr(module, weights["architecture"]["callable"])
        network = made(**weights["architecture"]["kwargs"]).eval()
        network.load_state_dict(torch.load(unpacked / weights["source"], weights_only=True))
        with torch.no_grad():
            found = network(torch.from_numpy(np.load(unpacked / "crops.npy")))
        for maps, expected in zip(found, expected_maps(unpacked), strict=True):
            assert np.allclose(maps, expected, rtol=1e-4, atol=1e-5)

    def test_onnx_runtime_runs_it(self, unpacked: Path) -> None:
        session = onnxruntime.InferenceSession(unpacked / "vgg3d.onnx")
        found = session.run(None, {"crops": np.load(unpacked / "crops.npy")})
        for maps, expected in zip(found, expected_maps(unpacked), strict=True):
            assert np.allclose(maps, expected, rtol=1e-4, atol=1e-5)

    def test_its_test_tensors_are_what_the_trained_network_makes(
        self, trained: Path, unpacked: Path
    ) -> None:
        network = load_backbone(trained / "checkpoints" / "last.pt").network.eval()
        crops = torch.from_numpy(np.load(unpacked / "crops.npy"))
        assert crops.shape == (1, 1, 4, 32, 32)
        for index, expected in zip((*LAYERS, 15), expected_maps(unpacked), strict=True):
            with torch.no_grad():
                maps = network.features[: index + 1](crops).numpy()
            assert np.allclose(maps, expected, rtol=1e-4, atol=1e-5)

    def test_axes_tell_which_crops_fit_and_how_large_voxels_are(self, unpacked: Path) -> None:
        content = described(unpacked)
        steps = [axis["size"] for axis in content["inputs"][0]["axes"][2:]]
        assert steps == [{"min": n, "step": n} for n in (2, 16, 16)]
        scales = {
            tensor["id"]: [axis["scale"] for axis in tensor["axes"][2:]]
            for tensor in (*content["inputs"], *content["outputs"])
        }
        # Of L3, after the first pooling, and L7, after the second.
        assert scales == {
            "crops": [10, 10, 10],
            "l7": [10, 40, 40],
            "l3": [10, 20, 20],
            "features": [20, 160, 160],
        }

    def test_it_tells_how_it_was_trained_and_nothing_of_the_computer(
        self, trained: Path, unpacked: Path, sample_files: Files
    ) -> None:
        told = described(unpacked)["config"]["napari-synapse-cl"]
        assert told["settings"]["batch_size"] == 4
        assert told["crop_size"] == [16, 16, 16]
        assert told["crop_settings"]["invert"] is True
        assert told["recipe"] is None
        hashes = {source["what"]: source["sha256"] for source in told["data"]}
        assert hashes["synapses"] == sha256_of(sample_files[1])
        readme = (unpacked / "README.md").read_text(encoding="utf-8")
        assert "- batch_size: 4\n" in readme
        assert "- started from: random weights\n" in readme
        assert hashes["image"] in readme
        for file in unpacked.glob("*.*"):
            content = file.read_bytes()
            for folder in (
                trained.parent,
                sample_files[0].parent,
                Path(bioimageio.__file__).parent,
            ):
                assert os.fsencode(folder) not in content, file.name

    @pytest.mark.parametrize("recipe", RECIPES)
    def test_a_recipe_is_told_by_its_settings(self, recipe: str, tmp_path: Path) -> None:
        architecture = Architecture((2,), (1,), ((2, 2, 2),))
        config = Config.from_values(read_recipe(recipe)).as_json()
        path = tmp_path / "last.pt"
        network = Vgg3D.from_architecture(architecture)
        save_checkpoint(path, network, architecture, config=config)
        assert training_record(NetworkOrigin.of_file(path, "trained")).recipe == recipe
        save_checkpoint(path, network, architecture, config={**config, "num_epochs": 77})
        assert training_record(NetworkOrigin.of_file(path, "trained")).recipe is None


class TestForUs:
    @pytest.mark.parametrize("form", ["packed", "folder", "description"])
    def test_it_is_opened_exactly_as_the_checkpoint_is(
        self, form: str, trained: Path, unpacked: Path
    ) -> None:
        places = {
            "packed": trained / NAME,
            "folder": unpacked,
            "description": unpacked / "rdf.yaml",
        }
        expected = load_backbone(trained / "checkpoints" / "last.pt")
        found = open_network(places[form], "trained")
        assert found.architecture == expected.architecture
        assert found.architecture.downsample_factors == ANISOTROPIC
        for name in ("crop_size", "voxel_size", "crop_settings"):
            assert getattr(found, name) == getattr(expected, name), name
        state = expected.network.state_dict()
        assert found.network.state_dict().keys() == state.keys()
        for name, tensor in found.network.state_dict().items():
            assert torch.equal(tensor, state[name]), name
        assert found.sha256 == sha256_of(
            unpacked / "rdf.yaml" if form != "packed" else places[form]
        )
        pretrained = open_pretrained(Config.from_values({"pretrained": str(places[form])}))
        assert pretrained.architecture == expected.architecture

    def test_one_made_of_another_is_the_same_network(self, trained: Path, tmp_path: Path) -> None:
        flags = ["--checkpoint", str(trained / NAME), "--output", str(tmp_path)]
        assert main(["--export_only", "--export", "pt", *flags]) == 0
        again = torch.load(tmp_path / "vgg3d.pt")
        for name, tensor in load_checkpoint(trained / NAME)["model_state_dict"].items():
            assert torch.equal(again[name], tensor), name


def packed(folder: Path, to: Path) -> Path:
    path = to / "p.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in folder.iterdir():
            archive.write(file, file.name)
    return path


def changed(**entry: object) -> Callable[[Path], None]:
    """Change what a description tells of the state dict; None takes it away."""

    def change(folder: Path) -> None:
        content = described(folder)
        state = {**content["weights"]["pytorch_state_dict"], **entry}
        content["weights"]["pytorch_state_dict"] = state
        (folder / "rdf.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")

    return change


def only_onnx(folder: Path) -> None:
    content = described(folder)
    del content["weights"]["pytorch_state_dict"]
    (folder / "rdf.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")


def without_weights(folder: Path) -> None:
    (folder / "vgg3d.pt").unlink()


def with_description(text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / "rdf.yaml").write_text(text, encoding="utf-8") and None


DAMAGES = [
    pytest.param(without_weights, "incomplete: vgg3d.pt is not", id="no weights"),
    pytest.param(changed(sha256="0" * 64), "damaged: vgg3d.pt in it does not match", id="hash"),
    pytest.param(changed(source="https://a.org/w.pt"), "elsewhere: name https://a", id="elsewhere"),
    pytest.param(only_onnx, "there as onnx and not as pytorch_state_dict", id="other weights"),
    pytest.param(with_description("type: dataset"), "of the type 'dataset'", id="no model"),
    pytest.param(with_description("- 1"), "of the type None", id="no resource"),
    pytest.param(with_description("a: [1"), "its description cannot be read", id="no YAML"),
    pytest.param(with_description("type: model"), "are there as nothing", id="nothing"),
]


class TestOfOthers:
    @pytest.mark.parametrize("is_packed", [True, False], ids=["packed", "unpacked"])
    @pytest.mark.parametrize(("damage", "told"), DAMAGES)
    def test_what_is_wrong_is_told_in_one_line(
        self,
        damage: Callable[[Path], None],
        told: str,
        is_packed: bool,
        unpacked: Path,
        tmp_path: Path,
    ) -> None:
        folder = shutil.copytree(unpacked, tmp_path / "p")
        damage(folder)
        path = packed(folder, tmp_path) if is_packed else folder / "rdf.yaml"
        with pytest.raises(InputError) as refused:
            load_backbone(path)
        assert told in str(refused.value)
        assert str(refused.value).startswith(str(path))
        assert "\n" not in str(refused.value)

    @pytest.mark.parametrize("is_packed", [True, False], ids=["packed", "unpacked"])
    @pytest.mark.parametrize("how", ["up", "absolute"])
    def test_weights_that_lie_outside_are_not_read(
        self, how: str, is_packed: bool, unpacked: Path, tmp_path: Path
    ) -> None:
        folder = shutil.copytree(unpacked, tmp_path / "p")
        (folder / "vgg3d.pt").rename(tmp_path / "outside.pt")
        outside = "../outside.pt" if how == "up" else str(tmp_path / "outside.pt")
        changed(source=outside)(folder)
        path = packed(folder, tmp_path) if is_packed else folder
        with pytest.raises(InputError, match="outside"):
            open_network(path, "trained")

    def test_an_entry_whose_name_leads_out_is_written_nowhere_else(
        self, unpacked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = shutil.copytree(unpacked, tmp_path / "p")
        changed(source="../../led-out.pt")(folder)
        path = packed(folder, tmp_path)
        with zipfile.ZipFile(path, "a") as archive:
            archive.write(folder / "vgg3d.pt", "../../led-out.pt")
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "p"))
        assert load_backbone(path).architecture.downsample_factors == ANISOTROPIC
        assert not list(tmp_path.rglob("led-out.pt"))
        assert sorted((tmp_path / "p").iterdir()) == sorted(folder.iterdir())

    def test_a_link_that_leads_out_is_not_followed(self, unpacked: Path, tmp_path: Path) -> None:
        folder = shutil.copytree(unpacked, tmp_path / "p")
        (folder / "vgg3d.pt").rename(tmp_path / "outside.pt")
        try:
            (folder / "vgg3d.pt").symlink_to(tmp_path / "outside.pt")
        except OSError:
            pytest.skip("links need rights here")
        with pytest.raises(InputError, match="outside of its folder"):
            load_backbone(folder / "rdf.yaml")

    def test_what_unpacks_to_fill_the_disk_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "p.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("rdf.yaml", "type: model")
            archive.writestr("vgg3d.pt", bytes(2**26))
        with pytest.raises(InputError, match="no package that is read: it unpacks to 64 MiB"):
            load_backbone(path)

    def test_a_disk_without_room_for_its_weights_is_told(self, trained: Path) -> None:
        with full_disk(20_000), pytest.raises(InputError, match=r"cannot be unpacked: File too la"):
            load_backbone(trained / NAME)

    def test_a_description_of_many_megabytes_is_not_parsed(self, tmp_path: Path) -> None:
        path = tmp_path / "p.zip"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("rdf.yaml", b"#" * 2**23)
        with pytest.raises(InputError, match=r"its rdf\.yaml is too large"):
            load_backbone(path)

    @pytest.mark.parametrize("where", [0.3, 0.6, 0.9])
    def test_a_flipped_bit_in_its_weights_is_told(
        self, where: float, trained: Path, tmp_path: Path
    ) -> None:
        content = bytearray((trained / NAME).read_bytes())
        with zipfile.ZipFile(trained / NAME) as archive:
            entry = archive.getinfo("vgg3d.pt")
        content[entry.header_offset + 40 + int(where * entry.file_size)] ^= 1
        (tmp_path / "p.zip").write_bytes(content)
        with pytest.raises(InputError, match=r"p\.zip is damaged"):
            load_backbone(tmp_path / "p.zip")

    def test_one_that_was_cut_off_is_told(self, trained: Path, tmp_path: Path) -> None:
        (tmp_path / "p.zip").write_bytes((trained / NAME).read_bytes()[:-5000])
        with pytest.raises(InputError, match=r"p\.zip is .*damaged"):
            load_backbone(tmp_path / "p.zip")


def foreign(folder: Path, state: dict[str, torch.Tensor], **entry: object) -> Path:
    """Write a package as others do: with code and names of their own."""
    torch.save(state, folder / "weights.pt")
    weights = {
        "pytorch_state_dict": {"source": "weights.pt", **entry},
        "onnx": {"source": "a.onnx"},
    }
    path = folder / "foreign.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("bioimageio.yaml", yaml.safe_dump({"type": "model", "weights": weights}))
        archive.write(folder / "weights.pt", "weights.pt")
    return path


class TestForeign:
    @pytest.mark.parametrize("is_old", [False, True], ids=["format 0.5", "format 0.4"])
    def test_a_vgg3d_is_recognised_and_pooled_as_its_package_says(
        self, is_old: bool, tmp_path: Path
    ) -> None:
        architecture = Architecture((2, 4), (1, 2), ((1, 2, 2), (2, 2, 2)))
        state = Vgg3D.from_architecture(architecture).state_dict()
        arguments = {"kwargs": {"downsample_factors": [[1, 2, 2], [2, 2, 2]], "fmaps": 2}}
        entry = {"architecture": "net.py:Net", **arguments}
        if not is_old:
            entry = {"architecture": {"callable": "Net", **arguments}}
        found = load_backbone(foreign(tmp_path, state, **entry))
        assert found.architecture == architecture
        assert torch.equal(found.network.features[0].weight, state["features.0.weight"])
        assert found.crop_size is None

    def test_without_that_it_is_read_as_its_state_dict_alone_is(self, tmp_path: Path) -> None:
        architecture = Architecture((2, 4), (1, 2), ((2, 2, 2),) * 2)
        state = Vgg3D.from_architecture(architecture).state_dict()
        assert load_backbone(foreign(tmp_path, state)).architecture == architecture

    @pytest.mark.parametrize("factors", [[[0, 2, 2], [2, 2, 2]], [[2, 2, 2]], [2, 2], "two"])
    def test_a_pooling_that_is_none_is_refused(self, factors: object, tmp_path: Path) -> None:
        state = Vgg3D.from_architecture(Architecture((2, 4), (1, 2), ((2, 2, 2),) * 2)).state_dict()
        path = foreign(tmp_path, state, kwargs={"downsample_factors": factors})
        with pytest.raises(InputError, match=r"foreign\.zip describes no architecture of a VGG3D"):
            load_backbone(path)

    def test_another_network_is_refused_with_what_it_holds(self, tmp_path: Path) -> None:
        path = foreign(tmp_path, {"encoder.weight": torch.zeros(2, 1, 3, 3)})
        with pytest.raises(InputError, match=r"foreign\.zip holds no VGG3D: .*for 2D images"):
            load_backbone(path)

    def test_weights_that_would_run_code_are_refused_and_named(self, tmp_path: Path) -> None:
        path = foreign(tmp_path, {"w": Bomb(tmp_path / "exploded")})
        with pytest.raises(InputError) as refused:
            load_backbone(path)
        assert str(refused.value).startswith(f"weights.pt in {path} is refused")
        assert not (tmp_path / "exploded").exists()


def export(run: Path, output: Path, *more: str) -> int:
    named = ["--checkpoint", str(run), "--output", str(output)]
    layers = [] if "--layer_num" in more else ["--layer_num", *map(str, LAYERS)]
    return main(["--export_only", "--export", "bioimageio", *named, *layers, *more])


class TestFailures:
    @pytest.fixture(autouse=True)
    def graph_is_known(self, unpacked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Write the graph that the run has exported: to make it anew takes a second."""
        known = (unpacked / "vgg3d.onnx").read_bytes()
        monkeypatch.setattr(bioimageio, "write_onnx", lambda path, export: path.write_bytes(known))

    def test_one_that_the_library_refuses_is_not_kept(
        self,
        trained: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.setattr(bioimageio, "_TAGS", 3 * ((),))
        assert export(trained, tmp_path) == 1
        told = capsys.readouterr().err
        assert f"{NAME} is not what bioimageio.spec expects, so it is not kept: tags" in told
        assert list(tmp_path.iterdir()) == []

    def test_nor_is_one_whose_state_dict_is_another_network(
        self,
        trained: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        write = bioimageio.write_pt

        def write_another(path: Path, export: Export) -> None:
            write(path, replace(export, network=Vgg3D.untrained(export.architecture, 1).eval()))

        monkeypatch.setattr(bioimageio, "write_pt", write_another)
        assert export(trained, tmp_path) == 1
        assert f"{NAME} was read again and is not the network" in capsys.readouterr().err
        assert list(tmp_path.iterdir()) == []

    def test_nor_is_one_whose_graph_is_another_network(
        self, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert export(trained, tmp_path, "--network", "start") == 1
        assert f"{NAME} was read again and is not the network" in capsys.readouterr().err
        assert list(tmp_path.iterdir()) == []

    def test_a_full_disk_is_told(
        self, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with full_disk(2000):
            assert export(trained, tmp_path) == 1
        assert "File too large" in capsys.readouterr().err
        assert list(tmp_path.iterdir()) == []

    def test_a_layer_that_is_not_there_is_refused(
        self, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert export(trained, tmp_path / "e", "--layer_num", "16") == 2
        assert "there is no layer 16" in capsys.readouterr().err
        assert not (tmp_path / "e").exists()

    def test_without_its_library_nothing_begins(
        self,
        trained: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.setitem(sys.modules, "bioimageio.spec", None)
        assert export(trained, tmp_path / "e") == 2
        told = capsys.readouterr().err
        assert 'bioimageio.spec, which is not installed: pip install "napari-synapse-cl[bio' in told
        assert not (tmp_path / "e").exists()

    @pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
    def test_a_folder_whose_name_is_no_utf8_is_one_like_others(
        self, trained: Path, tmp_path: Path
    ) -> None:
        folder = tmp_path / os.fsdecode(b"caf\xe9")
        assert export(trained, folder) == 0
        assert open_network(folder / NAME, "trained").architecture.fmaps == (2, 4, 8, 16)

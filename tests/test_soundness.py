"""A checkpoint that says what cannot be is refused, and so are metrics and a status."""

import copy
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from napari_synapse_cl.config import Config
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.models.architecture import Architecture
from napari_synapse_cl.models.checkpoints import load_backbone, save_checkpoint
from napari_synapse_cl.models.vgg3d import Vgg3D
from napari_synapse_cl.runs.events import Control, Message, StepDone
from napari_synapse_cl.runs.folder import RunFolder, RunStatus
from napari_synapse_cl.runs.following import follow
from napari_synapse_cl.runs.metrics import STEP_COLUMNS, append_row, keep_until, read_metrics
from napari_synapse_cl.training.training_state import check_sound

STATE = {"step": torch.tensor(4.0), "exp_avg": torch.zeros(2), "exp_avg_sq": torch.zeros(2)}
CHECKPOINT: dict[str, Any] = {
    "model_state_dict": {"features.0.weight": torch.zeros(2)},
    "head_state_dict": {"weight": torch.zeros(2)},
    "objective_state_dict": {},
    "optimizer_state_dict": {"state": {0: STATE}, "param_groups": [{"lr": 1e-3, "params": [0]}]},
    "architecture": {},
    "config": {"num_epochs": 3},
    "step": 4,
    "batch_size": 8,
    "steps_per_epoch": 2,
    "epoch_losses": [],
    "selection": {"best": 1.0, "best_epoch": 1, "last_epoch": 2},
    "plan": {"precision": "float32", "checkpointing": False, "micro_batch_size": 8},
}


def of_state(**values: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda c: c["optimizer_state_dict"]["state"][0].update(values)


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (lambda c: c.update(step=10**30), "step is 1000000"),
        (lambda c: c.update(step=-1), "step is -1"),
        (lambda c: c.update(step=float("nan")), "step is nan"),
        (lambda c: c.update(step=7), "step is 7, and 1 to 6 was expected"),
        (lambda c: c.update(steps_per_epoch=0), "steps_per_epoch is 0"),
        (lambda c: c.update(epoch_losses=[float("nan")]), r"epoch_losses are \[nan\]"),
        (lambda c: c["selection"].update(last_epoch=4), "last_epoch is 4"),
        (lambda c: c["selection"].update(best=float("nan")), "best value is nan"),
        (lambda c: c["plan"].update(precision="int3"), "precision is 'int3'"),
        (lambda c: c["optimizer_state_dict"].update(state={}), "empty state"),
        (
            lambda c: c["optimizer_state_dict"]["param_groups"][0].update(lr=float("nan")),
            "rate nan",
        ),
        (of_state(step=torch.tensor(1e30)), r"taken 1\.\d+e\+30 steps"),
        (of_state(step=torch.tensor(-4.0)), "taken -4.0 steps"),
        (of_state(step=torch.tensor(torch.nan)), "taken nan steps"),
        (of_state(exp_avg=torch.tensor([0.0, torch.inf])), "exp_avg that is missing, NaN"),
        (of_state(exp_avg_sq=torch.tensor([0.0, -1.0])), "squares of gradients below 0"),
        (lambda c: c["head_state_dict"].update(weight=torch.tensor(torch.nan)), "NaN or infinite"),
        (lambda c: c.update(head_state_dict=3), "head_state_dict holds no tensors"),
    ],
)
def test_a_checkpoint_that_says_what_cannot_be_is_refused_with_it(
    damage: Callable[[dict[str, Any]], Any], found: str
) -> None:
    check_sound(CHECKPOINT, Path("last.pt"))
    damaged = copy.deepcopy(CHECKPOINT)
    damage(damaged)
    with pytest.raises(InputError, match=found):
        check_sound(damaged, Path("last.pt"))


@pytest.mark.parametrize("name", CHECKPOINT)
def test_a_checkpoint_that_lacks_an_entry_is_none_to_go_on_with(name: str) -> None:
    rest = {key: value for key, value in CHECKPOINT.items() if key != name}
    with pytest.raises(InputError, match=r"last\.pt is no checkpoint of a training to go on with"):
        check_sound(rest, Path("last.pt"))


def test_a_network_whose_weights_are_not_finite_is_refused(tmp_path: Path) -> None:
    architecture = Architecture((1, 2), (1, 1), ((2, 2, 2),) * 2)
    network = Vgg3D.from_architecture(architecture)
    with torch.no_grad():
        network.features[0].weight[0, 0, 0, 0, 0] = torch.nan
    save_checkpoint(tmp_path / "c.pt", network, architecture)
    with pytest.raises(InputError, match=r"not finite, in features\.0\.weight"):
        load_backbone(tmp_path / "c.pt")


def test_a_checkpoint_without_check_sums_is_read(tmp_path: Path) -> None:
    architecture = Architecture((1, 2), (1, 1), ((2, 2, 2),) * 2)
    torch.serialization.set_crc32_options(False)
    try:
        save_checkpoint(tmp_path / "c.pt", Vgg3D.from_architecture(architecture), architecture)
    finally:
        torch.serialization.set_crc32_options(True)
    assert load_backbone(tmp_path / "c.pt").architecture == architecture


@pytest.fixture
def steps_file(tmp_path: Path) -> Path:
    file = tmp_path / "steps.csv"
    for step in range(1, 5):
        append_row(file, STEP_COLUMNS, StepDone(1, step, 0.5, 1e-3, 3.0, 1.0))
    return file


@pytest.mark.parametrize("bad", [b"\xff\x00", b'"', b"1e999", b"", b"(" * 200_000, b"9" * 40])
def test_damaged_rows_are_left_out_and_told(bad: bytes, steps_file: Path) -> None:
    lines = steps_file.read_bytes().split(b"\r\n")
    lines[2] = lines[2].replace(b"1,2", b"1," + bad)
    steps_file.write_bytes(b"\r\n".join(lines))
    assert read_metrics(steps_file)["step"].tolist() == [1, 3, 4]
    told = keep_until(steps_file, STEP_COLUMNS, 4)
    assert told is not None
    assert told.startswith("1 row of")
    assert keep_until(steps_file, STEP_COLUMNS, 4) is None


@pytest.mark.parametrize("content", [b"", b"epoch,stfp\r\n1,1\r\n", b"\xff" * 99, None])
def test_metrics_without_a_header_are_written_anew_and_that_is_told(
    content: bytes | None, steps_file: Path
) -> None:
    if content is None:
        steps_file.unlink()
    else:
        steps_file.write_bytes(content)
    assert read_metrics(steps_file) == {}
    told = keep_until(steps_file, STEP_COLUMNS, 4)
    assert told is not None
    assert ("is gone" if content is None else "was damaged and is written anew") in told


@pytest.mark.parametrize(
    "values",
    [{"pid": "x"}, {"pid": 10**40}, {"state": "odd"}, {"steps_per_epoch": 0}, {"step": -1}],
)
def test_a_status_of_other_kinds_is_none(values: dict[str, Any]) -> None:
    status = RunStatus.of_this_process(
        device="cpu",
        precision="float32",
        n_training=9,
        n_validation=0,
        batch_size=3,
        steps_per_epoch=3,
        total_steps=9,
        step=0,
    )
    assert RunStatus.from_json(json.loads(json.dumps(asdict(status)))) == status
    with pytest.raises(ValueError, match="not the status"):
        RunStatus.from_json({**asdict(status), **values})


def test_who_follows_a_run_is_told_of_damaged_rows(tmp_path: Path, steps_file: Path) -> None:
    run = RunFolder(tmp_path)
    run.create(Config())
    status = RunStatus.of_this_process(
        device="cpu",
        precision="float32",
        n_training=9,
        n_validation=0,
        batch_size=3,
        steps_per_epoch=3,
        total_steps=9,
        step=0,
    )
    run.write_status(status)
    with steps_file.open("ab") as file:
        file.write(b"\xff\xff,\x00\r\n")
    control = Control()
    control.request("stop")
    told = [e.text for e in follow(run, control) if isinstance(e, Message)]
    assert told == ["1 row of this run's metrics are damaged, and not shown"]

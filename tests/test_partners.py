"""Positives beyond augmentation: second views of other synapses, and what is no negative."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile
import torch
import torch.nn.functional as F

from conftest import Files, as_flags
from napari_synapse_cl.cli import main
from napari_synapse_cl.config import Config
from napari_synapse_cl.data.opening import open_dataset
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.models import losses
from napari_synapse_cl.models.architecture import Architecture
from napari_synapse_cl.models.vgg3d import ContrastiveModel
from napari_synapse_cl.runs.metrics import read_metrics
from napari_synapse_cl.training.objectives import Objective, make_objective
from napari_synapse_cl.training.partners import Partners, cells_of
from napari_synapse_cl.training.views import VALIDATION_EPOCH, Views

N = 6
PLACES = np.array([[0, 0, 0], [0, 0, 90], [0, 0, 300], [0, 0, 310], [0, 0, 320], [0, 0, 5000]])
CELLS = np.array([7, 7, 3, 7, 3, -1])


def partners(
    cells: np.ndarray | None = None, training: Any = range(N), **settings: Any
) -> Partners:
    config = Config.from_values({"positive_share": 1, **settings})
    return Partners(PLACES, np.arange(N), np.array(training), config, cells)


def drawn(made: Partners, synapse: int, n_epochs: int = 200) -> Counter[int]:
    return Counter(int(made.of(np.array([synapse]), epoch)[0]) for epoch in range(1, n_epochs + 1))


class TestWhoIsAPartner:
    def test_those_within_the_distance(self) -> None:
        made = partners(positive_distance=100)
        assert set(drawn(made, 0)) == {1}
        assert set(drawn(made, 3)) == {2, 4}

    def test_those_of_the_same_cell_however_far(self) -> None:
        made = partners(CELLS)
        assert set(drawn(made, 0)) == {1, 3}
        assert set(drawn(made, 2)) == {4}

    def test_those_of_the_same_cell_within_the_distance(self) -> None:
        made = partners(CELLS, positive_distance=250)
        assert set(drawn(made, 0)) == {1}
        assert set(drawn(made, 3)) == {1}

    def test_itself_where_there_is_no_other_or_its_cell_is_not_known(self) -> None:
        assert set(drawn(partners(positive_distance=100), 5)) == {5}
        assert set(drawn(partners(CELLS), 5)) == {5}

    def test_none_of_the_validation(self) -> None:
        made = partners(CELLS, training=[0, 2, 3])
        assert set(drawn(made, 0)) == {3}
        assert set(drawn(made, 2)) == {2}

    def test_all_are_drawn_alike_in_as_many_pairs_as_is_asked_for(self) -> None:
        found = drawn(partners(positive_distance=100, positive_share=0.5), 3, 2000)
        assert found[3] == pytest.approx(1000, abs=80)
        assert found[2] == pytest.approx(500, abs=80)
        assert found[4] == pytest.approx(500, abs=80)

    def test_they_depend_on_seed_epoch_and_synapse_alone(self) -> None:
        synapses = np.arange(N)
        made, other = partners(CELLS), partners(CELLS, seed=1)
        first = [made.of(synapses, epoch).tolist() for epoch in range(1, 9)]
        assert first == [partners(CELLS).of(synapses, epoch).tolist() for epoch in range(1, 9)]
        assert first[3] == [int(made.of(synapses[i : i + 1], 4)[0]) for i in range(N)]
        assert first != [other.of(synapses, epoch).tolist() for epoch in range(1, 9)]
        assert len({tuple(one) for one in first}) > 1

    def test_what_is_told_counts_those_that_have_some(self) -> None:
        assert partners(CELLS, positive_share=0.25).told() == (
            "5 of 6 training synapses have others of the same cell, which the second view is of "
            "in 25% of their pairs"
        )


class TestCells:
    def dataset(self, files: Files, tmp_path: Path, cells: list[Any], **settings: Any) -> Any:
        image, table = files
        synapses = pd.read_csv(table).assign(cell=pd.array(cells, dtype="object"))
        synapses.to_csv(tmp_path / "table.csv", index=False)
        values = {"image": image, "synapses": tmp_path / "table.csv", "voxel_size": 8, **settings}
        config = Config.from_values(values)
        return open_dataset(config), config

    def test_they_are_told_apart_by_a_column_and_blanks_are_not_known(
        self, sample_files: Files, tmp_path: Path
    ) -> None:
        big = 720575940623374833
        names = [big, big + 1, None, big, *[big + 1] * 8]
        cells, told = cells_of(*self.dataset(sample_files, tmp_path, names, cell_column="cell"))
        assert cells is not None
        assert cells.tolist() == [0, 1, -1, 0, *[1] * 8]
        assert told == (
            "by the column cell 11 synapses are of 2 cells, and of 1 the cell is not known"
        )

    def test_a_segmentation_tells_them_and_its_zero_is_none(
        self, sample_files: Files, tmp_path: Path
    ) -> None:
        table = pd.read_csv(sample_files[1])
        bodies = np.zeros(np.load(sample_files[0], mmap_mode="r").shape, np.uint32)
        expected = [-1, *[0] * 5, *[1] * 6]
        for (z, y, x), cell in zip(table[["z", "y", "x"]].to_numpy(int), expected, strict=True):
            bodies[z, y, x] = 40 + cell if cell >= 0 else 0
        tifffile.imwrite(tmp_path / "bodies.tif", bodies)
        made = self.dataset(
            sample_files,
            tmp_path,
            [""] * 12,
            cell_column="segmentation",
            segmentation=tmp_path / "bodies.tif",
        )
        cells, _ = cells_of(*made)
        assert cells is not None
        assert cells.tolist() == expected

    @pytest.mark.parametrize(
        ("column", "cells", "words"),
        [
            ("body", range(12), "no column body"),
            ("segmentation", range(12), "there is none to read"),
            ("cell", range(12), "no two synapses are of one cell by the column cell"),
            ("cell", [5] * 12, "by the column cell all synapses are of one cell"),
        ],
    )
    def test_what_leaves_no_positives_or_no_negatives_is_refused(
        self, sample_files: Files, tmp_path: Path, column: str, cells: Any, words: str
    ) -> None:
        made = self.dataset(sample_files, tmp_path, list(cells), cell_column=column)
        with pytest.raises(InputError, match=words):
            cells_of(*made)


def objective(cells: np.ndarray | None, **settings: Any) -> Objective:
    config = Config.from_values({"fmaps": 2, "proj_dim": 8, "proj_hidden_dim": 12, **settings})
    model = ContrastiveModel.from_seed(Architecture.from_config(config), config, 0)
    return make_objective(model, config, cells)


def slow_loss(z: torch.Tensor, shown: np.ndarray, cells: np.ndarray, decoupled: bool) -> float:
    """Both losses as loops over views, from their definitions."""
    flat = F.normalize(torch.cat([z[:, 0], z[:, 1]]).double(), dim=1)
    of, n = shown.T.ravel(), len(z)
    total = 0.0
    for i in range(2 * n):
        partner = (i + n) % (2 * n)
        others = [
            j
            for j in range(2 * n)
            if j not in (i, partner)
            and of[i] != of[j]
            and not (cells[of[i]] >= 0 and cells[of[i]] == cells[of[j]])
        ]
        terms = [float(flat[i] @ flat[j]) / 0.2 for j in others]
        positive = float(flat[i] @ flat[partner]) / 0.2
        if decoupled and not terms:
            continue
        total += np.logaddexp.reduce(terms if decoupled else [*terms, positive]) - positive
    return total / (2 * n)


class TestNegatives:
    SHOWN = np.array([[0, 1], [1, 1], [2, 4], [5, 5]])

    @pytest.mark.parametrize("name", ["nt_xent", "dcl"])
    @pytest.mark.parametrize("cells", [CELLS, np.full(N, -1), np.zeros(N, np.int64)])
    def test_those_of_one_synapse_or_cell_are_left_out(self, name: str, cells: np.ndarray) -> None:
        z = torch.randn(4, 2, 8, generator=torch.Generator().manual_seed(0), requires_grad=True)
        made = objective(cells, objective=name, temperature=0.2)
        loss = made.loss(z, None, torch.from_numpy(self.SHOWN))
        expected = slow_loss(z.detach(), self.SHOWN, cells, decoupled=name == "dcl")
        assert loss.item() == pytest.approx(expected, abs=1e-5)
        loss.backward()
        assert z.grad is not None
        assert torch.isfinite(z.grad).all()

    def test_without_cells_a_batch_of_pairs_has_the_plain_loss(self) -> None:
        z = torch.randn(4, 2, 8, generator=torch.Generator().manual_seed(0))
        shown = torch.arange(4)[:, None].expand(-1, 2)
        plain = losses.nt_xent(z[:, 0], z[:, 1], temperature=0.07)
        assert torch.equal(objective(None).loss(z, None, shown), plain)

    def test_nor_are_they_in_the_queue(self) -> None:
        made = objective(CELLS, objective="moco", queue_size=8)
        z, targets = torch.randn(2, 4, 2, 8, generator=torch.Generator().manual_seed(0))
        shown = torch.from_numpy(self.SHOWN)
        model = ContrastiveModel.from_seed(Architecture.from_config(made.config), made.config, 0)
        made.after_step(model, targets, shown, 0.5)
        own, queued = shown[:, 0], torch.tensor([0, 1, 2, 5, 1, 1, 4, 5])
        assert made.state_dict()["queued"].tolist() == queued.tolist()
        related = made.related(own, queued)
        assert related[0].tolist() == [True, True, False, False, True, True, False, False]
        assert related[3].tolist() == [False] * 3 + [True] + [False] * 3 + [True]
        assert torch.isfinite(made.loss(z, targets, shown))


class Crops:
    """Crops whose grey value tells which synapse they are of."""

    positions = type("Positions", (), {"rows": np.arange(N)})()

    def read(self, synapses: list[int]) -> np.ndarray:
        values = np.array(synapses, np.float32).reshape(-1, 1, 1, 1, 1) / 10
        return np.broadcast_to(values, (len(synapses), 1, 16, 16, 16)).copy()


PLAIN = {
    "crop_size": 16,
    **dict.fromkeys(["rotation_range", "flip_prob", "noise_level", "contrast_range"], 0),
    **dict.fromkeys(["brightness_range", "gaussian_blur_sigma"], 0),
}


class TestViews:
    def views(self) -> Views:
        crops: Any = Crops()
        config = Config.from_values(PLAIN)
        return Views(crops, config, torch.device("cpu"), (1.0, 1.0, 1.0), partners(CELLS))

    def test_the_second_is_of_the_partner(self) -> None:
        views, synapses = self.views(), np.array([5, 2, 0])
        shown = views.shown(synapses, 3)
        assert shown[:, 0].tolist() == [5, 2, 0]
        assert shown[:2, 1].tolist() == [5, 4]
        made = views.augmented(synapses, 3)[:, 0, 8, 8, 8] * 10
        assert made.round().int().tolist() == [*shown[:, 0], *shown[:, 1]]

    def test_in_the_validation_it_is_of_the_synapse_itself(self) -> None:
        shown = self.views().shown(np.arange(N), VALIDATION_EPOCH)
        assert shown[:, 0].tolist() == shown[:, 1].tolist() == list(range(N))


def test_a_training_with_partners_takes_other_steps_and_goes_on_to_the_same(
    flags: list[str], sample_files: Files, tmp_path: Path
) -> None:
    def train(name: str, **more: Any) -> list[float]:
        settings = {"output": tmp_path / name, "num_epochs": 3, **more}
        assert main([*flags, "--train_only", "--voxel_size", "8", *as_flags(settings)]) == 0
        return read_metrics(tmp_path / name / "steps.csv")["loss"].tolist()

    near = {"positive_distance": 500, "positive_share": 1}
    alone, paired = train("alone"), train("paired", **near)
    assert alone != paired
    assert train("again", **near) == paired

"""Extractions that put features onto the points."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from napari.utils.notifications import Notification
from pytestqt.qtbot import QtBot

from napari_synapse_cl.data.sample import Sample

from .conftest import (
    EXTRACT,
    LONG,
    SMALL,
    TRAIN,
    click,
    fill_in,
    messages,
    open_widget,
    train,
    wait_for_end,
)

pytestmark = pytest.mark.usefixtures("no_children")

COLUMNS = [f"L20_mean_{channel:03d}" for channel in range(4 * int(str(SMALL["fmaps"])))]
ON_CPU = {"device": "cpu", "precision": "float32"}


@pytest.fixture(scope="session")
def expected(trained: Path, sample: Sample) -> np.ndarray:
    """The features of the sample, by the command line's code."""
    from napari_synapse_cl.config import Config
    from napari_synapse_cl.pipeline import run

    folder = trained.parents[2]
    values = {"image": folder / "volume.npy", "synapses": folder / "synapses.csv", **ON_CPU}
    values |= {"extract_only": True, "checkpoint": trained, "output": folder / "features"}
    for _ in run(Config.from_values(values)):
        pass
    table = pd.read_csv(folder / "features" / "features_L20_mean.csv")
    return table[COLUMNS].to_numpy(np.float32)


def extract(qtbot: QtBot, widget: Any, checkpoint: Path, **settings: Any) -> None:
    fill_in(widget, {**ON_CPU, **settings, "checkpoint": checkpoint})
    click(qtbot, widget.start_button)
    assert widget.cancel_button.isEnabled()
    wait_for_end(qtbot, widget)


def test_features_are_assigned_in_the_order_of_the_points(
    window: Any, qtbot: QtBot, trained: Path, expected: np.ndarray, sample: Sample
) -> None:
    widget = open_widget(window.viewer, EXTRACT)
    # Reversed, with one point outside the volume: a mistake in the order would show.
    points = window.points
    classes = list(sample.synapses["class"])[::-1]
    points.data = [*points.data[::-1], [500, 500, 500]]
    points.features = pd.DataFrame({"class": [*classes, "far"]})
    heard: list[object] = []
    points.events.features.connect(heard.append)
    extract(qtbot, widget, trained)
    assert heard
    assert list(points.features.columns) == ["class", *COLUMNS]
    assert list(points.features["class"]) == [*classes, "far"]
    features = points.features[COLUMNS].to_numpy()
    np.testing.assert_allclose(features[:-1], expected[::-1], rtol=1e-4, atol=1e-6)
    assert np.isnan(features[-1]).all()
    record = points.metadata["napari_synapse_cl"]["L20_mean"]
    assert record["checkpoint"] == str(trained)
    assert len(record["sha256"]) == 64
    assert (record["pooling"], record["crop_size"]) == ("mean", [16, 16, 16])


def test_layers_with_other_transforms_meet_in_the_world(
    make_napari_viewer: Any, qtbot: QtBot, trained: Path, expected: np.ndarray, sample: Sample
) -> None:
    viewer = make_napari_viewer()
    viewer.add_image(sample.image, scale=(10, 10, 10), translate=(100, -50, 7), units=("nm",) * 3)
    voxels = sample.synapses[["z", "y", "x"]].to_numpy(float)
    # The points count in micrometres, from another origin, by another step.
    world = (voxels * 10 + [100, -50, 7]) / 1000
    points = viewer.add_points(
        (world - 0.3) / 0.002, scale=(0.002,) * 3, translate=(0.3,) * 3, units=("um",) * 3
    )
    widget = open_widget(viewer, EXTRACT)
    extract(qtbot, widget, trained)
    features = points.features[COLUMNS].to_numpy()
    np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-6)


def test_multiscale_layer_is_read_at_its_finest_level(
    make_napari_viewer: Any, qtbot: QtBot, trained: Path, expected: np.ndarray, sample: Sample
) -> None:
    viewer = make_napari_viewer()
    levels = [sample.image, sample.image[::2, ::2, ::2]]
    viewer.add_image(levels, multiscale=True, scale=(10, 10, 10))
    points = viewer.add_points(sample.synapses[["z", "y", "x"]] * 10.0)
    widget = open_widget(viewer, EXTRACT)
    extract(qtbot, widget, trained)
    features = points.features[COLUMNS].to_numpy()
    np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-6)


def test_last_checkpoint_of_a_training_is_preset(window: Any, qtbot: QtBot, tmp_path: Path) -> None:
    trainer = open_widget(window.viewer, TRAIN)
    train(qtbot, trainer, tmp_path / "run", {**SMALL, "num_epochs": 1})
    wait_for_end(qtbot, trainer)
    widget = open_widget(window.viewer, EXTRACT)
    checkpoint = tmp_path / "run" / "checkpoints" / "last.pt"
    assert Path(widget.form.editor("checkpoint").value) == checkpoint
    qtbot.waitUntil(
        lambda: (
            "stage 3 conv 1" in widget.layer_name.text()
            and "16 × 16 × 16" in widget.layer_name.text()
        ),
        timeout=LONG,
    )


def test_columns_that_are_there_are_not_overwritten_unasked(
    window: Any,
    qtbot: QtBot,
    trained: Path,
    expected: np.ndarray,
    notifications: list[Notification],
) -> None:
    window.points.features = window.points.features.assign(L20_mean_000=1.5)
    widget = open_widget(window.viewer, EXTRACT)
    fill_in(widget, {**ON_CPU, "checkpoint": trained})
    click(qtbot, widget.start_button)
    assert widget.start_button.isEnabled()
    (message,) = messages(notifications, "error")
    assert "L20_mean_… already" in message
    assert (window.points.features["L20_mean_000"] == 1.5).all()
    widget.replace_box.setChecked(True)
    extract(qtbot, widget, trained)
    assert list(window.points.features.columns) == ["class", *COLUMNS]
    np.testing.assert_allclose(
        window.points.features[COLUMNS].to_numpy(), expected, rtol=1e-4, atol=1e-6
    )


def test_points_that_changed_meanwhile_get_no_features(
    window: Any,
    qtbot: QtBot,
    trained: Path,
    tmp_path: Path,
    expected: np.ndarray,
    notifications: list[Notification],
) -> None:
    widget = open_widget(window.viewer, EXTRACT)
    fill_in(widget, {**ON_CPU, "checkpoint": trained})
    click(qtbot, widget.start_button)
    window.points.add([[5, 5, 5]])
    wait_for_end(qtbot, widget)
    (message,) = messages(notifications, "error")
    assert "was changed" in message
    assert list(window.points.features.columns) == ["class"]
    (kept,) = (tmp_path / "runs").rglob("*.csv")
    assert str(kept) in message
    np.testing.assert_allclose(pd.read_csv(kept)[COLUMNS], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["none", "missing", "broken"])
def test_wrong_checkpoint_is_told(
    window: Any, qtbot: QtBot, tmp_path: Path, notifications: list[Notification], kind: str
) -> None:
    widget = open_widget(window.viewer, EXTRACT)
    path = tmp_path / "network.pt"
    if kind == "broken":
        path.write_bytes(b"no checkpoint")
    if kind != "none":
        fill_in(widget, {"checkpoint": path})
    click(qtbot, widget.start_button)
    qtbot.waitUntil(lambda: bool(messages(notifications, "error")), timeout=LONG)
    wait_for_end(qtbot, widget)
    (message,) = messages(notifications, "error")
    assert "checkpoint" in message
    assert "\n" not in message
    assert list(window.points.features.columns) == ["class"]


def test_cancel_leaves_the_layer_as_it_was(
    window: Any, qtbot: QtBot, trained: Path, notifications: list[Notification]
) -> None:
    widget = open_widget(window.viewer, EXTRACT)
    fill_in(widget, {**ON_CPU, "checkpoint": trained})
    click(qtbot, widget.start_button)
    click(qtbot, widget.cancel_button)
    wait_for_end(qtbot, widget)
    assert list(window.points.features.columns) == ["class"]
    assert "Cancelled" in widget.status.text()
    assert not messages(notifications, "error")

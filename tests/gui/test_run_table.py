"""The table of runs: what it shows, and what can be done with them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.utils.notifications import Notification
from pytestqt.qtbot import QtBot
from qtpy.QtCore import QUrl
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import QLineEdit

from napari_synapse_cl.runs.folder import RunFolder
from napari_synapse_cl.runs.listing import BIN, NOTE, runs_in_bin
from napari_synapse_cl.runs.metrics import read_metrics
from napari_synapse_cl.runs.shards import Places
from napari_synapse_cl.system.files import write_json
from napari_synapse_cl.widgets import base
from napari_synapse_cl.widgets.look import open_dock
from napari_synapse_cl.widgets.runs.table import BEST, EPOCHS, NAME, SIZE, STATE, VOLUME

from .conftest import (
    EXTRACT,
    LONG,
    RUNS,
    TRAIN,
    click,
    messages,
    n_steps,
    open_widget,
    select_run,
    train,
    wait_for_end,
)

pytestmark = pytest.mark.usefixtures("no_children")


@pytest.fixture
def two(trained: Path) -> list[Path]:
    """Two runs where those lie that were given no folder."""
    folders = [base.runs_folder() / name for name in ("first", "second")]
    for folder in folders:
        shutil.copytree(trained.parents[1], folder)
    return folders


@pytest.fixture
def runs(window: Any, qtbot: QtBot, two: list[Path]) -> Any:
    """The table, once it shows them."""
    window.viewer.window._qt_window.show()
    widget = open_widget(window.viewer, RUNS)
    qtbot.waitUntil(lambda: widget.table.topLevelItemCount() == 2, timeout=LONG)
    return widget


def select(widget: Any, *folders: Path) -> None:
    widget.table.clearSelection()
    for row in widget.table.rows:
        row.setSelected(row.run.folder in folders)
    assert {run.folder for run in widget.table.selected} == set(folders)


def row_of(widget: Any, folder: Path) -> Any:
    [row] = [row for row in widget.table.rows if row.run.folder == folder]
    return row


def test_each_run_has_a_row(runs: Any, two: list[Path]) -> None:
    row = row_of(runs, two[0])
    losses = read_metrics(two[0] / "epochs.csv")["validation_loss"]
    assert row.text(NAME) == "first"
    assert row.text(STATE) == "finished"
    assert row.text(EPOCHS) == "1 of 1"
    assert row.text(BEST) == f"{losses.min():.3g}"
    assert row.text(VOLUME) == "volume.npy"
    assert row.text(SIZE).endswith(("KiB", "MiB"))
    assert "validation loss of epoch 1" in row.toolTip(BEST)
    assert runs.status.text() == "2 runs."
    for one in (runs.continue_button, runs.attach_button, runs.use_button, runs.bin_button):
        assert not one.isEnabled()


def test_a_name_is_typed_and_kept(runs: Any, qtbot: QtBot, two: list[Path]) -> None:
    row = row_of(runs, two[1])
    runs.table.setCurrentItem(row)
    runs.table.edit_name(row)
    [line] = runs.table.findChildren(QLineEdit)
    line.setText("narrow network")
    with qtbot.waitSignal(runs.listed, timeout=LONG):
        qtbot.keyClick(line, "\r")
    assert row_of(runs, two[1]).text(NAME) == "narrow network"
    assert json.loads((two[1] / "run.json").read_text())["name"] == "narrow network"
    assert two[1].is_dir()


def test_losses_and_what_is_found_again_are_compared_in_one_plot_each(
    runs: Any, qtbot: QtBot, two: list[Path]
) -> None:
    RunFolder(two[1]).rename("other")
    with qtbot.waitSignal(runs.listed, timeout=LONG):
        runs.refresh()
    select(runs, *two)
    click(qtbot, runs.compare_button)
    plots = runs.comparison.losses, runs.comparison.retrieval
    labels = [[curve.label for curve in plot.curves if curve.label] for plot in plots]
    assert [set(names) for names in labels] == [{"first", "other"}] * 2
    qtbot.waitUntil(lambda: plots[1].curves[0].series.n == 1, timeout=LONG)
    steps, epochs = (read_metrics(two[0] / name) for name in ("steps.csv", "epochs.csv"))
    # Two steps an epoch.
    training, validation, *_ = (curve.series.points for curve in plots[0].curves)
    np.testing.assert_allclose(training, [steps["step"] / 2, steps["loss"]])
    np.testing.assert_allclose(validation, [[1], epochs["validation_loss"]])
    found = plots[1].curves[0].points()
    np.testing.assert_allclose(found, [[1], 100 * epochs["retrieval"]])
    # One of them in the light, too.
    runs.viewer.theme = "light"
    runs.comparison.close()
    qtbot.waitUntil(lambda: runs.comparison is None)


def test_a_run_that_is_trained_is_compared_as_it_grows(
    window: Any, runs: Any, qtbot: QtBot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from .conftest import ENDLESS, discard

    monkeypatch.setattr("napari_synapse_cl.widgets.runs.comparison.REFRESH_MS", 100)
    trainer = open_widget(window.viewer, TRAIN)
    train(qtbot, trainer, tmp_path / "live", ENDLESS)
    qtbot.waitUntil(lambda: trainer.view.last is not None, timeout=LONG)
    select_run(qtbot, window.viewer, tmp_path / "live")
    assert row_of(runs, tmp_path / "live").text(STATE) == "running"
    assert not runs.continue_button.isEnabled()
    assert not runs.bin_button.isEnabled()
    click(qtbot, runs.compare_button)
    series = runs.comparison.losses.curves[0].series
    qtbot.waitUntil(lambda: series.n > 0, timeout=LONG)
    before = series.n
    qtbot.waitUntil(lambda: series.n > before, timeout=LONG)
    runs.comparison.close()
    discard(qtbot, trainer)


def test_a_network_is_used_for_extraction(
    window: Any, runs: Any, qtbot: QtBot, two: list[Path]
) -> None:
    select(runs, two[1])
    click(qtbot, runs.use_button)
    extractor = open_dock(window.viewer, EXTRACT)
    assert extractor.panel.checkpoint == two[1] / "checkpoints" / "best.pt"
    qtbot.waitUntil(lambda: extractor.panel.info is not None, timeout=LONG)


def test_its_folder_is_shown_on_the_desktop(
    runs: Any, qtbot: QtBot, two: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[QUrl] = []
    monkeypatch.setattr(QDesktopServices, "openUrl", shown.append)
    select(runs, two[0])
    click(qtbot, runs.show_button)
    assert [url.toLocalFile() for url in shown] == [str(two[0])]


def test_runs_are_moved_to_the_bin_and_put_back(
    window: Any,
    runs: Any,
    qtbot: QtBot,
    two: list[Path],
    notifications: list[Notification],
) -> None:
    runs.session.keep_checkpoint(str(two[0] / "checkpoints" / "best.pt"))
    select(runs, *two)
    with qtbot.waitSignal(runs.listed, timeout=LONG):
        click(qtbot, runs.bin_button)
    assert not any(folder.exists() for folder in two)
    assert len(runs_in_bin(two[0].parent)) == 2
    assert runs.session.last_checkpoint is None
    # They are still in sight, and selected.
    assert [run.state for run in runs.table.selected] == ["in the bin"] * 2
    assert {run.name for run in runs.table.selected} == {"first", "second"}
    assert not runs.continue_button.isEnabled()
    assert runs.bin_button.text() == "Put back"
    with qtbot.waitSignal(runs.listed, timeout=LONG):
        click(qtbot, runs.bin_button)
    assert all((folder / "run.json").exists() for folder in two)
    assert {run.folder for run in runs.table.selected} == set(two)
    assert not (two[0].parent / BIN).exists()
    assert not messages(notifications, "error")


def test_what_was_in_the_bin_for_long_is_removed_and_that_is_said(
    window: Any, qtbot: QtBot, two: list[Path], notifications: list[Notification]
) -> None:
    from napari_synapse_cl.runs.listing import move_to_bin

    binned = move_to_bin(two[0])
    note = binned.path / NOTE
    said = json.loads(note.read_text())
    note.write_text(json.dumps({**said, "discarded": "2020-01-01T00:00:00+00:00"}))
    window.viewer.window._qt_window.show()
    widget = open_widget(window.viewer, RUNS)
    qtbot.waitUntil(lambda: bool(messages(notifications, "info")), timeout=LONG)
    assert messages(notifications, "info") == ["Removed from the bin, after 14 days: first."]
    assert "first" in widget.status.text()
    assert not binned.path.exists()
    qtbot.waitUntil(lambda: widget.table.topLevelItemCount() == 1, timeout=LONG)


def test_a_run_that_cannot_be_moved_is_told_of_and_stays(
    runs: Any, qtbot: QtBot, two: list[Path], notifications: list[Notification]
) -> None:
    select(runs, two[0])
    shutil.rmtree(two[0])
    with qtbot.waitSignal(runs.listed, timeout=LONG):
        click(qtbot, runs.bin_button)
    [message] = messages(notifications, "error")
    assert "no run" in message
    assert [row.run.folder for row in runs.table.rows] == [two[1]]
    assert runs.status.text() == message


def test_runs_of_another_folder_are_listed_too(
    runs: Any,
    qtbot: QtBot,
    trained: Path,
    tmp_path: Path,
    choose: Callable[[Path], None],
    notifications: list[Notification],
) -> None:
    choose(trained.parents[1])
    with qtbot.waitSignal(runs.listed, timeout=LONG):
        click(qtbot, runs.other_button)
    assert [run.folder for run in runs.table.selected] == [trained.parents[1]]
    assert runs.table.topLevelItemCount() == 3
    (tmp_path / "empty").mkdir()
    choose(tmp_path / "empty")
    with qtbot.waitSignal(runs.listed, timeout=LONG):
        click(qtbot, runs.other_button)
    [message] = messages(notifications, "error")
    assert "holds no run" in message
    assert runs.table.topLevelItemCount() == 3


def test_where_runs_were_is_known_at_the_next_start(
    runs: Any, qtbot: QtBot, trained: Path, make_napari_viewer: Any
) -> None:
    with qtbot.waitSignal(runs.listed, timeout=LONG):
        runs.open_folder(trained.parents[1])
    viewer = make_napari_viewer(show=True)
    again = open_widget(viewer, RUNS)
    qtbot.waitUntil(lambda: again.table.topLevelItemCount() == 3, timeout=LONG)
    assert trained.parents[1] in [run.folder for run in again.table.runs]


def test_of_an_extraction_in_shards_it_is_shown_how_far_it_is(
    runs: Any, qtbot: QtBot, tmp_path: Path
) -> None:
    places = Places(tmp_path / "out")
    places.shards.mkdir(parents=True)
    write_json(places.plan, {"what": "features", "unit": "crop", "sizes": [10, 10, 4]})
    lines = [
        json.dumps({"shard": shard, "failed": shard, "host": "a", "pid": 7}) for shard in range(3)
    ]
    places.done.write_text(lines[1] + "\n")
    runs.open_folder(places.output)
    widget = open_dock(runs.viewer, EXTRACT)
    qtbot.waitUntil(lambda: "1 of 3 shards" in widget.status.text(), timeout=LONG)
    assert "1 row failed" in widget.status.text()
    places.done.write_text("\n".join(lines) + "\n")
    write_json(places.finished, {})
    qtbot.waitUntil(lambda: widget.job is None, timeout=LONG)
    assert str(places.features) in widget.status.text()


def test_what_its_network_has_made_lies_below_a_run(
    runs: Any, qtbot: QtBot, two: list[Path]
) -> None:
    (two[0] / "features_L20_mean.csv").touch()
    maps = two[0].parent / "maps"
    (maps / "maps_L12.zarr").mkdir(parents=True)
    (maps / "config.json").write_text(json.dumps({"checkpoint": str(two[0])}))
    with qtbot.waitSignal(runs.listed, timeout=LONG):
        runs.refresh()
    assert runs.table.topLevelItemCount() == 2
    row = row_of(runs, two[0])
    below = [row.child(i).text(NAME) for i in range(row.childCount())]
    assert below == ["features_L20_mean.csv", "maps_L12.zarr"]
    assert row_of(runs, two[1]).childCount() == 0


def test_a_run_is_attached_to_and_shown_as_it_was(
    window: Any, runs: Any, qtbot: QtBot, two: list[Path]
) -> None:
    select(runs, two[0])
    click(qtbot, runs.attach_button)
    trainer = open_dock(window.viewer, TRAIN)
    wait_for_end(qtbot, trainer)
    assert n_steps(trainer) == 2
    assert "The best was epoch 1 (validation loss" in trainer.view.verdict.text()
    assert "its network is offered" in trainer.view.verdict.text()
    assert trainer.session.last_checkpoint == two[0] / "checkpoints" / "best.pt"


def test_nothing_is_said_to_be_there_where_nothing_is(window: Any, qtbot: QtBot) -> None:
    window.viewer.window._qt_window.show()
    widget = open_widget(window.viewer, RUNS)
    qtbot.waitUntil(lambda: "No runs yet" in widget.status.text(), timeout=LONG)
    assert str(base.runs_folder()) in widget.status.text()


def test_rows_are_sorted_by_what_they_mean(runs: Any, qtbot: QtBot, two: list[Path]) -> None:
    from qtpy.QtCore import Qt

    rows = (two[0] / "epochs.csv").read_text().splitlines()
    later = rows[1].split(",")
    more = [",".join([str(n), str(2 * n), *later[2:]]) for n in range(2, 11)]
    (two[0] / "epochs.csv").write_text("\n".join([*rows, *more]) + "\n")
    with qtbot.waitSignal(runs.listed, timeout=LONG):
        runs.refresh()
    for order, first in (
        (Qt.SortOrder.DescendingOrder, two[0]),
        (Qt.SortOrder.AscendingOrder, two[1]),
    ):
        runs.table.sortByColumn(EPOCHS, order)
        assert runs.table.topLevelItem(0).run.folder == first

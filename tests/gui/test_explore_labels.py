"""Labels by keys: given, taken back, kept in a file, and learnt from."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.layers import Points
from napari.utils.notifications import Notification
from pytestqt.qtbot import QtBot
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication, QFileDialog

from napari_synapse_cl.config import Config
from napari_synapse_cl.features.tables import read_table
from napari_synapse_cl.pipeline import run
from napari_synapse_cl.widgets import session
from napari_synapse_cl.widgets.layers.files import write_points
from napari_synapse_cl.widgets.look import open_dock

from .conftest import EXPLORE, click, messages
from .test_explore import RECORD, click_picture, explored, synapses

__all__ = ["synapses"]


def press(qtbot: QtBot, widget: Any, key: Qt.Key) -> None:
    qtbot.keyClick(widget.gallery, key)


def label(widget: Any, rows: Any, digit: int) -> None:
    widget.state.select(rows)
    widget.labelling.press(digit)


def test_keys_label_what_is_selected_and_go_on_to_the_next(synapses: Any, qtbot: QtBot) -> None:
    widget, points = explored(qtbot, synapses), synapses.points
    labels = widget.labelling.labels
    press(qtbot, widget, Qt.Key.Key_1)
    assert "nothing is selected" in widget.status.text().lower()
    click_picture(qtbot, widget, 0)
    press(qtbot, widget, Qt.Key.Key_1)
    assert widget.state.selected.tolist() == [1]
    press(qtbot, widget, Qt.Key.Key_3)
    press(qtbot, widget, Qt.Key.Key_1)
    assert points.features["label"].tolist()[:4] == ["class 1", "class 3", "class 1", None]
    assert labels.counts == {"class 1": 2, "class 2": 0, "class 3": 1}
    # From the first label on these are what the colours mean.
    assert widget.state.color_column == "label"
    assert {e.label: e.color for e in widget.state.legend}["class 3"] == labels.color_of("class 3")
    # Several that are selected stay so.
    click_picture(qtbot, widget, 0)
    click_picture(qtbot, widget, 2, Qt.KeyboardModifier.ShiftModifier)
    press(qtbot, widget, Qt.Key.Key_Delete)
    assert widget.state.selected.tolist() == [0, 1, 2]
    assert points.features["label"].isna().all()
    qtbot.keyClick(widget.gallery, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    assert labels.counts["class 1"] == 2
    click(qtbot, widget.labelling.undo_button)
    assert labels.counts["class 1"] == 1
    click(qtbot, widget.labelling.redo_button)
    assert labels.counts["class 1"] == 2
    table = widget.labelling.table
    table.topLevelItem(0).setText(1, "tbar")
    assert points.features["label"].tolist()[:3] == ["tbar", "class 3", "tbar"]
    table.topLevelItem(2).setText(1, "tbar")
    assert labels.counts == {"tbar": 3, "class 2": 0}
    labels.set_color("tbar", "#123456")
    assert widget.state.colors[0, :3].tolist() == [0x12, 0x34, 0x56]


def test_labels_are_saved_at_once_and_found_again(
    synapses: Any, qtbot: QtBot, tmp_path: Any
) -> None:
    widget, points = explored(qtbot, synapses), synapses.points
    label(widget, [0, 5], 1)
    label(widget, [3], 2)
    folder = session.FILE.with_name("labels")
    qtbot.waitUntil(lambda: any("class 2" in f.read_text() for f in folder.glob("Synapses*.json")))
    # As after a crash: the layer has no such column, and a point is missing.
    synapses.viewer.window.remove_dock_widget(widget)
    points.features = points.features.drop(columns=["label"])
    points.remove([0])
    widget = open_dock(synapses.viewer, EXPLORE)
    qtbot.waitUntil(lambda: "label" in widget.state.column_names)
    found = points.features["label"]
    assert found[4] == "class 1"
    assert found[2] == "class 2"
    assert found.notna().sum() == 2
    assert widget.labelling.labels.classes == ["class 1", "class 2"]
    widget.labelling.labels.undo()
    assert points.features["label"].isna().all()
    # Another column begins without, one of numbers is none.
    edit = widget.labelling.column_edit
    edit.setText("class")
    edit.editingFinished.emit()
    assert set(widget.labelling.labels.classes) == set(points.features["class"])
    points.features = points.features.assign(number=1.0)
    edit.setText("number")
    edit.editingFinished.emit()
    assert edit.text() == "class"


def test_points_that_go_take_their_labels_and_nothing_is_undone_for_others(
    synapses: Any, qtbot: QtBot
) -> None:
    widget = explored(qtbot, synapses)
    label(widget, [1, 2], 1)
    synapses.points.remove([0])
    assert widget.labelling.labels.values.tolist()[:3] == ["class 1", "class 1", None]
    assert widget.labelling.labels.counts == {"class 1": 2}
    assert not widget.labelling.undo_button.isEnabled()
    assert "can no longer be undone" in widget.status.text()


def test_a_few_labels_tell_the_rest_and_how_good_that_is(
    synapses: Any, qtbot: QtBot, notifications: list[Notification]
) -> None:
    widget, points = explored(qtbot, synapses), synapses.points
    panel, classes = widget.labelling, points.features["class"].to_numpy()
    assert not panel.predict_button.isEnabled()
    names = sorted(set(classes))
    for digit, name in enumerate(names, start=1):
        label(widget, np.flatnonzero(classes == name)[:4], digit)
    click(qtbot, panel.predict_button)
    qtbot.waitUntil(lambda: "predicted" in points.features, timeout=20_000)
    features = points.features
    known = features["label"].notna().to_numpy()
    assert features["predicted"][known].isna().all()
    told = features["predicted"][~known].map(lambda text: names[int(text[-1]) - 1])
    assert (told == classes[~known]).mean() > 0.9
    assert features["probability"][~known].between(0, 1).all()
    assert "learnt from" in widget.status.text()
    # The columns of before are written anew, and what is uncertain gets none.
    panel.reject_box.setValue(1)
    with qtbot.waitSignal(widget.state.columns_changed, timeout=20_000):
        click(qtbot, panel.predict_button)
    qtbot.waitUntil(lambda: points.features["predicted"].isna().all())
    assert [n for n in points.features if n.startswith("predicted")] == ["predicted"]
    click(qtbot, panel.measure_button)
    qtbot.waitUntil(lambda: panel.score is not None, timeout=20_000)
    text = panel.score.text.text()
    assert "balanced accuracy" in text or "cannot be measured" in text
    click(qtbot, panel.score.copy_button)
    assert QApplication.clipboard().text() == panel.score.plain_text
    panel.score.close()
    qtbot.waitUntil(lambda: panel.score is None)
    # What is asked for has no label yet, and one key after the other gives it one.
    click(qtbot, panel.next_button)
    qtbot.waitUntil(lambda: widget.state.order_title == "asked next", timeout=20_000)
    asked = widget.state.order
    assert len(asked) == min(9, (~known).sum())
    assert not known[asked].any()
    assert "typical of many" in widget.status.text()
    for _ in asked:
        press(qtbot, widget, Qt.Key.Key_1)
    assert (points.features["label"][asked] == "class 1").all()
    assert not messages(notifications, "error")


def test_labels_of_one_class_teach_nothing(synapses: Any, qtbot: QtBot) -> None:
    widget = explored(qtbot, synapses)
    label(widget, [0, 1], 1)
    widget.labelling.predict()
    qtbot.waitUntil(lambda: "two classes" in widget.status.text())


@pytest.mark.parametrize("values", [[True, False], [10**17, None]])
def test_columns_of_other_kinds_can_be_labels_as_texts(
    synapses: Any, qtbot: QtBot, values: list[Any]
) -> None:
    widget, points = explored(qtbot, synapses), synapses.points
    cells = np.array([values[i % 2] for i in range(len(points.data))], object)
    points.features = points.features.assign(other=cells)
    widget.labelling.labels.use("other")
    assert widget.labelling.labels.classes == sorted(str(v) for v in values if v is not None)


def test_a_classifier_is_saved_and_tells_the_labels_of_other_points(
    synapses: Any,
    qtbot: QtBot,
    notifications: list[Notification],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    widget, points, viewer = explored(qtbot, synapses), synapses.points, synapses.viewer
    panel, classes = widget.labelling, points.features["class"].to_numpy()
    assert not panel.save_button.isEnabled()
    names = sorted(set(classes))
    for digit, name in enumerate(names, start=1):
        label(widget, np.flatnonzero(classes == name)[:4], digit)
        panel.labels.rename(f"class {digit}", name)
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(tmp_path / "first"), ""))
    path = tmp_path / "first.npz"
    click(qtbot, panel.save_button)
    qtbot.waitUntil(path.exists, timeout=20_000)
    qtbot.waitUntil(lambda: "saved as" in widget.status.text())
    # Points of another layer that were read by the same network.
    other = viewer.add_layer(Points.create(*points.as_layer_data_tuple()))
    other.features = other.features.drop(columns=["label"])
    widget.points_box.choose(other)
    qtbot.waitUntil(lambda: widget.state.layer is other)
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (str(path), ""))
    click(qtbot, panel.apply_button)
    qtbot.waitUntil(lambda: "predicted" in other.features, timeout=20_000)
    told = other.features["predicted"].to_numpy()
    assert (told == classes).mean() > 0.9
    assert "read from first.npz" in widget.status.text()
    # The command line takes the same file, and tells the same.
    table, _ = write_points(str(tmp_path / "other.csv"), *other.as_layer_data_tuple()[:2])
    values = {"explore": "predict", "features": table, "classifier": path, "output": tmp_path}
    assert list(run(Config.from_values(values)))
    predicted, _ = read_table(tmp_path / "predictions.csv")
    assert predicted["predicted_v2"].tolist() == told.tolist()
    # What means something else is refused in words.
    for change, words in (
        ({"sha256": "another"}, "the network was not known"),
        ({"crop_size": [8, 8, 8]}, "the crop size was 16 × 16 × 16, and here it is 8 × 8 × 8"),
    ):
        record = {**RECORD, **change}
        other.metadata = {**other.metadata, "napari_synapse_cl": {"L3_mean": record}}
        other.features = other.features.assign(L3_mean_000=other.features["L3_mean_000"] + 1e-4)
        with qtbot.waitSignal(widget.explored):
            other.features = other.features.copy()
        panel.apply(path)
        qtbot.waitUntil(lambda words=words: words in widget.status.text(), timeout=20_000)
    widget.vector_box.setCurrentIndex(1)
    with qtbot.waitSignal(widget.explored):
        widget.vector_box.activated.emit(1)
    panel.apply(path)
    qtbot.waitUntil(lambda: "was taught on L3_mean" in widget.status.text())
    assert not messages(notifications, "error")

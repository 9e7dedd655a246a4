"""Reports on what is explored, from the window."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.utils.notifications import Notification
from pytestqt.qtbot import QtBot
from qtpy.QtGui import QDesktopServices

from napari_synapse_cl.features.tables import read_table
from napari_synapse_cl.widgets.explore import reporting

from .conftest import LONG, click, messages, press_in_dialog
from .test_explore import explored, synapses  # noqa: F401 - a fixture

pytestmark = pytest.mark.usefixtures("no_children")


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the browser was told to open."""
    found: list[str] = []
    monkeypatch.setattr(QDesktopServices, "openUrl", lambda url: found.append(url.toLocalFile()))
    return found


def report_on(qtbot: QtBot, widget: Any, answer: str) -> str:
    """Click, wait for the end, and return what was said."""
    pressed = press_in_dialog(answer)
    click(qtbot, widget.reporter.button)
    assert widget.reporter.button.text() == "Stop report"
    qtbot.waitUntil(lambda: bool(pressed) and widget.reporter.job is None, timeout=LONG)
    return str(widget.status.text())


def test_what_is_shown_is_reported_with_crops_and_opened(
    synapses: Any,  # noqa: F811
    qtbot: QtBot,
    tmp_path: Path,
    choose: Any,
    opened: list[str],
    notifications: list[Notification],
) -> None:
    file = tmp_path / "volume.npy"
    np.save(file, synapses.image.data)
    synapses.image.metadata = {"napari_synapse_cl": {"location": str(file)}}
    widget = explored(qtbot, synapses)
    widget.labelling.labels.assign(np.array([0, 1]), "mine")
    shown = np.array([7, 0, 1, 2, 3, 8])
    widget.state.set_order(shown, "a choice")
    (tmp_path / "mine_features.npz").write_text("not this one")
    choose(tmp_path / "mine")
    text = report_on(qtbot, widget, "Open it")
    assert not messages(notifications, "error")
    report = tmp_path / "mine.html"
    assert opened == [str(report)]
    assert str(report) in text
    page = report.read_text(encoding="utf-8")
    assert "Report on mine_features_2.npz" in page
    assert "6 rows have one here" in page
    assert "data:image/jpeg" in page or "/9j/" in page
    # From the table beside it the page can be made again.
    assert str(tmp_path / "mine_features_2.npz") in page
    table, record = read_table(tmp_path / "mine_features_2.npz")
    assert len(table) == 6
    vectors = table.filter(regex=r"^L3_mean_\d{3}$").to_numpy()
    np.testing.assert_array_equal(vectors, widget.state.vectors.values[np.sort(shown)])
    np.testing.assert_allclose(table[["z", "y", "x"]], synapses.points.data[np.sort(shown)])
    assert table["label"].tolist()[:2] == ["mine", "mine"]
    assert record["records"]["L3_mean"]["crop_size"] == [16, 16, 16]
    assert (tmp_path / "mine_features.npz").read_text() == "not this one"
    assert not list(tmp_path.glob(".synapse_cl_*"))


def test_a_volume_in_no_file_is_written_beside_the_report(
    synapses: Any,  # noqa: F811
    qtbot: QtBot,
    tmp_path: Path,
    choose: Any,
    opened: list[str],
) -> None:
    widget = explored(qtbot, synapses)
    choose(tmp_path / "mine.html")
    report_on(qtbot, widget, "Cancel")
    assert opened == []
    page = (tmp_path / "mine.html").read_text(encoding="utf-8")
    assert f"{len(synapses.points.data)} rows have one here" in page
    assert str(tmp_path / "mine_volume.npy") in page
    np.testing.assert_array_equal(np.load(tmp_path / "mine_volume.npy"), synapses.image.data)


def test_of_one_that_is_too_large_there_are_no_crops_and_the_page_says_so(
    synapses: Any,  # noqa: F811
    qtbot: QtBot,
    tmp_path: Path,
    choose: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reporting, "LARGEST_WRITTEN", 1000)
    widget = explored(qtbot, synapses)
    choose(tmp_path / "mine.html")
    report_on(qtbot, widget, "Cancel")
    assert not (tmp_path / "mine_volume.npy").exists()
    assert "here are no crops" in (tmp_path / "mine.html").read_text(encoding="utf-8")


def test_one_that_is_stopped_leaves_nothing(
    synapses: Any,  # noqa: F811
    qtbot: QtBot,
    tmp_path: Path,
    choose: Any,
) -> None:
    widget = explored(qtbot, synapses)
    folder = tmp_path / "reports"
    folder.mkdir()
    choose(folder / "mine.html")
    click(qtbot, widget.reporter.button)
    click(qtbot, widget.reporter.button)
    qtbot.waitUntil(lambda: widget.reporter.job is None, timeout=LONG)
    assert "nothing of it is kept" in widget.status.text()
    assert list(folder.iterdir()) == []
    assert widget.reporter.button.text() == "Report …"


def test_what_is_in_the_way_is_said(
    synapses: Any,  # noqa: F811
    qtbot: QtBot,
    tmp_path: Path,
    choose: Any,
    notifications: list[Notification],
) -> None:
    widget = explored(qtbot, synapses)
    choose(tmp_path / "gone" / "mine.html")
    click(qtbot, widget.reporter.button)
    assert widget.reporter.job is None
    assert "Cannot write to" in messages(notifications, "error")[-1]
    # One point is too little to compare.
    widget.state.set_order(np.array([3]), "one")
    choose(tmp_path / "mine.html")
    click(qtbot, widget.reporter.button)
    qtbot.waitUntil(lambda: widget.reporter.job is None, timeout=LONG)
    assert "at least 2 are needed" in messages(notifications, "error")[-1]
    assert not list(tmp_path.iterdir())

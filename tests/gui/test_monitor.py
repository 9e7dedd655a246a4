"""The live plots: what they keep, draw, compare and export."""

import re
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyqtgraph as pg
import pytest
from napari.utils.notifications import Notification
from pytestqt.qtbot import QtBot
from qtpy.QtCore import QPoint
from qtpy.QtGui import QColor, QImage, QPalette
from qtpy.QtWidgets import QLabel
from superqt import QCollapsible

from napari_synapse_cl.widgets.look import COLORS, MARK_COLOR, OPEN, Colors
from napari_synapse_cl.widgets.plots import Curve, LivePlot, Series, smooth
from napari_synapse_cl.widgets.train.monitor import DETAILS

from .conftest import (
    ENDLESS,
    TRAIN,
    click,
    discard,
    messages,
    n_steps,
    open_widget,
    train,
    wait_for_end,
)

pytestmark = pytest.mark.usefixtures("no_children")


def test_series_keeps_every_point_while_they_are_few() -> None:
    series = Series()
    for i in range(100):
        series.add(i, i**2)
    np.testing.assert_array_equal(series.points[0], np.arange(100))
    np.testing.assert_array_equal(series.points[1], np.arange(100) ** 2)
    assert series.near(41.6) == (42, 42**2)


def test_of_many_points_as_many_means_are_drawn_as_there_is_room_for(
    window: Any, qtbot: QtBot
) -> None:
    values = np.random.default_rng(0).normal(size=50_000).cumsum()
    series = Series()
    series.extend(np.arange(777), values[:777])
    series.extend(np.arange(777, 50_000), values[777:])
    assert series.n == 50_000
    plot, curve = LivePlot(window.viewer, "Loss"), Curve("", "text", series)
    qtbot.addWidget(plot)
    plot.add_curve(curve)
    plot.show()
    qtbot.waitUntil(lambda: len(plot.drawn(curve)[0]) == 50_000)
    item = plot._items[curve]
    # They are averaged once the axes reach as far as they do.
    qtbot.waitUntil(lambda: 100 < len(item.getData()[0]) < 4 * plot.width())
    x, y = item.getData()
    n = 50_000 // len(x)
    np.testing.assert_allclose(y, values[: n * len(x)].reshape(-1, n).mean(axis=1))


def test_smoothing_is_the_mean_of_the_neighbours() -> None:
    values = np.random.default_rng(0).normal(size=30)
    expected = [values[max(i - 2, 0) : i + 3].mean() for i in range(30)]
    np.testing.assert_allclose(smooth(values), expected)
    assert smooth(np.empty(0)).size == 0


def show_training(window: Any, qtbot: QtBot, tmp_path: Path, label_column: str = "") -> Any:
    """Train in a window as large as a small screen, and return what shows it."""
    window.viewer.window._qt_window.resize(1280, 800)
    window.viewer.window._qt_window.show()
    widget = open_widget(window.viewer, TRAIN)
    widget.form.editor("label_column").value = label_column
    train(qtbot, widget, tmp_path / "run")
    wait_for_end(qtbot, widget)
    return widget.view.monitor


def test_curves_are_drawn_with_what_was_told(window: Any, qtbot: QtBot, tmp_path: Path) -> None:
    # A name may be of several words.
    layer = window.points
    layer.features = layer.features.assign(**{"kind of synapse": layer.features["class"]})
    monitor = show_training(window, qtbot, tmp_path, label_column="kind of synapse")
    click(qtbot, monitor.fold)
    qtbot.waitUntil(lambda: set(monitor.details) == set(DETAILS))
    plots = [monitor.losses, monitor.retrieval, *monitor.details.values()]
    curves = {curve.label: (plot, curve) for plot in plots for curve in plot.curves}
    assert set(curves) == {
        *("step", "training", "validation", "held-out synapses found again"),
        *(label for label, _ in DETAILS.values()),
    }
    for plot, curve in curves.values():
        # They are drawn a while after they are told.
        told = curve.points()
        assert len(told[0]) > 0
        qtbot.waitUntil(lambda p=plot, c=curve, t=told: np.array_equal(p.drawn(c), t))


def test_no_two_scales_share_an_axis_and_each_detail_says_what_it_is(
    window: Any, qtbot: QtBot, tmp_path: Path
) -> None:
    monitor = show_training(window, qtbot, tmp_path)
    assert not monitor.details
    click(qtbot, monitor.fold)
    qtbot.waitUntil(lambda: set(monitor.details) == set(DETAILS))
    for name, plot in monitor.details.items():
        [curve] = plot.curves
        assert curve.series is monitor.series[name]
        assert DETAILS[name][1] in plot.toolTip()
        # Where there are no labels nothing is known of them.
        assert plot.isVisibleTo(monitor) == (name != "knn_accuracy")
    found = monitor.retrieval
    # Two synapses are held out: one of three other views is the partner.
    assert "by chance (33 %)" in found.findChild(QLabel).text()
    low, high = found._main.viewRange()[1]
    assert -10 < low < 0
    assert 100 < high < 110
    axes = [plot._axes["bottom"].labelText for plot in (monitor.losses, found)]
    assert axes == ["step", "step"]
    [curve] = found.curves
    shares = monitor.series["retrieval"].points[1]
    np.testing.assert_allclose(curve.points()[1], 100 * shares)
    click(qtbot, monitor.fold)
    assert not any(plot.isVisible() for plot in monitor.details.values())


def luminance(color: QColor) -> float:
    """The relative luminance of a colour, as WCAG 2 defines it."""
    parts = [color.redF(), color.greenF(), color.blueF()]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


def contrast(one: QColor, other: QColor) -> float:
    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_curves_legends_and_warnings_are_told_from_their_background(
    theme: str, window: Any, qtbot: QtBot
) -> None:
    window.viewer.theme = theme
    widget = open_widget(window.viewer, TRAIN)
    monitor = widget.view.monitor
    colors = Colors(window.viewer)
    assert contrast(QColor("black"), QColor("white")) == pytest.approx(21)
    for plot in (monitor.losses, monitor.retrieval):
        for curve, item in plot._items.items():
            pen = pg.mkPen(item.opts["pen"]).color()
            assert pen.alpha() == 255
            assert contrast(pen, colors.background) >= 4.5
            assert curve.label in plot.findChild(QLabel).text()
        for name in re.findall("color:(#[0-9a-f]{6})", plot.findChild(QLabel).text()):
            assert contrast(QColor(name), colors.background) >= 4.5
    for name in COLORS:
        assert contrast(colors.named(name), colors.background) >= 4.5
    assert contrast(colors.text, colors.background) >= 4.5
    search = widget.page.advanced.search
    search.ensurePolished()
    hint = search.palette().color(QPalette.ColorRole.PlaceholderText)
    assert hint.alpha() == 255
    assert contrast(hint, colors.fields) >= 4.5
    text, behind = re.findall("#[0-9a-f]{6}", MARK_COLOR)
    assert contrast(QColor(text), QColor(behind)) >= 4.5
    assert MARK_COLOR in widget.view.warning.styleSheet()


def test_marks_of_folded_groups_follow_the_theme(window: Any, qtbot: QtBot) -> None:
    window.viewer.window._qt_window.show()
    [group, *_] = open_widget(window.viewer, OPEN).findChildren(QCollapsible)
    qtbot.waitUntil(group.isVisible)
    for theme in ("dark", "light", "dark"):
        window.viewer.theme = theme
        qtbot.wait(50)
        picture = group.toggleButton().icon().pixmap(16).toImage()
        size = picture.size()
        places = product(range(size.width()), range(size.height()))
        drawn = [picture.pixelColor(*place) for place in places]
        mark = max(drawn, key=QColor.alpha)
        assert mark.alpha() > 200
        assert contrast(mark, Colors(window.viewer).foreground) >= 4.5


def test_plots_tell_values_under_the_cursor_and_show_losses_on_a_logarithmic_axis(
    window: Any, qtbot: QtBot, tmp_path: Path
) -> None:
    monitor = show_training(window, qtbot, tmp_path)
    assert "Point at a plot" in monitor.values.text()
    canvas = monitor.losses.findChild(pg.GraphicsView)
    qtbot.mouseMove(canvas.viewport(), QPoint(canvas.width() // 2, canvas.height() // 3))
    qtbot.waitUntil(lambda: "Step" in monitor.values.text())
    for word in ("loss", "learning rate", "validation loss", "retrieval", "feature rank"):
        assert word in monitor.values.text()
    loss = monitor.losses.curves[0]
    qtbot.waitUntil(lambda: len(monitor.losses.drawn(loss)[0]) == 4)
    on_screen = monitor.losses.findChild(pg.GraphicsView).items
    before = np.concatenate([i.getData()[1] for i in on_screen() if isinstance(i, pg.PlotDataItem)])
    monitor.log_box.click()
    after = np.concatenate([i.getData()[1] for i in on_screen() if isinstance(i, pg.PlotDataItem)])
    values = loss.points()[1]
    assert np.isin(values, before).all()
    assert np.isin(np.log10(values), after).all()
    # What is found again is read on a scale of its own.
    found = monitor.retrieval.curves[0]
    told = found.points()[1]
    qtbot.waitUntil(lambda: np.array_equal(monitor.retrieval.drawn(found)[1], told))
    monitor.log_box.click()
    assert np.isin(values, loss.points()[1]).all()


def test_plots_are_exported_as_a_picture_and_as_a_table(
    window: Any,
    qtbot: QtBot,
    tmp_path: Path,
    choose: Any,
    notifications: list[Notification],
) -> None:
    monitor = show_training(window, qtbot, tmp_path)
    choose(tmp_path / "plots.png")
    click(qtbot, monitor.export_button)
    picture = QImage(str(tmp_path / "plots.png"))
    assert picture.size() == monitor.size() * monitor.devicePixelRatio()
    assert len({picture.pixel(x, picture.height() // 3) for x in range(picture.width())}) > 2
    choose(tmp_path / "plots.csv")
    click(qtbot, monitor.export_button)
    table = pd.read_csv(tmp_path / "plots.csv")
    assert list(table["step"]) == [1, 2, 3, 4]
    assert table["validation_loss"].notna().tolist() == [False, True, False, True]
    np.testing.assert_allclose(table["loss"], monitor.series["loss"].points[1])
    saved = [text for text in messages(notifications, "info") if text.startswith("Saved")]
    assert len(saved) == 2
    choose(tmp_path / "no folder" / "plots.csv")
    click(qtbot, monitor.export_button)
    (message,) = messages(notifications, "error")
    assert "cannot be written" in message


def test_redraws_are_bounded_whatever_the_step_rate(
    window: Any, qtbot: QtBot, tmp_path: Path
) -> None:
    window.viewer.window._qt_window.show()
    widget = open_widget(window.viewer, TRAIN)
    train(qtbot, widget, tmp_path / "run", ENDLESS)
    monitor = widget.view.monitor
    drawn: list[int] = []
    step = monitor.losses.curves[0]
    monitor.losses._items[step].sigPlotChanged.connect(lambda _: drawn.append(n_steps(widget)))
    before = n_steps(widget)
    qtbot.wait(3500)
    assert 2 <= len(drawn) <= 5
    # As many, where each step takes longer than what lies between two redraws.
    assert n_steps(widget) - before >= len(drawn)
    discard(qtbot, widget)


def test_an_empty_run_has_nothing_to_export(
    window: Any, qtbot: QtBot, tmp_path: Path, choose: Any, notifications: list[Notification]
) -> None:
    widget = open_widget(window.viewer, TRAIN)
    choose(tmp_path / "plots.csv")
    click(qtbot, widget.view.monitor.export_button)
    choose(tmp_path / "plots.pdf")
    click(qtbot, widget.view.monitor.export_button)
    no_training, wrong_suffix = messages(notifications, "error")
    assert "no training" in no_training
    assert ".png" in wrong_suffix
    assert not list(tmp_path.glob("plots*"))

"""What runs is in reach of everybody: by keys, by names that are read aloud, in small windows."""

from pathlib import Path
from typing import Any

import pytest
from napari.settings import get_settings
from pytestqt.qtbot import QtBot
from qtpy.QtCore import QPoint, Qt
from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractItemView,
    QAbstractSpinBox,
    QComboBox,
    QLabel,
    QLineEdit,
    QProgressBar,
    QPushButton,
    QScrollArea,
    QWidget,
)

from napari_synapse_cl.widgets.look import dock_of
from napari_synapse_cl.widgets.train.controls import START_KEYS, STOP_KEYS, ContinueDialog, open_run

from .conftest import ENDLESS, LONG, RUNS, TRAIN, fill_in, n_steps, open_widget, wait_for_end

INPUTS = (
    QAbstractButton,
    QAbstractItemView,
    QAbstractSpinBox,
    QComboBox,
    QLineEdit,
    QProgressBar,
)


def unnamed(widget: QWidget) -> list[str]:
    """The inputs in a widget of which a screen reader would say nothing."""
    inputs = [one for kind in INPUTS for one in widget.findChildren(kind)]
    assert inputs
    labelled = [label.buddy() for label in widget.findChildren(QLabel)]
    return [
        type(one).__name__
        for one in inputs
        # Parts of inputs, such as the line in a spin box, belong to these.
        if not one.objectName().startswith("qt_")
        and not one.accessibleName()
        and not (isinstance(one, QAbstractButton) and one.text().strip())
        and one not in labelled
    ]


def in_tab_order(within: QWidget) -> list[QWidget]:
    """The inputs of a widget as Tab goes through them."""
    found, one = [], within.nextInFocusChain()
    while one is not within:
        takes_tab = bool(one.focusPolicy() & Qt.FocusPolicy.TabFocus)
        is_there = within.isAncestorOf(one) and one.isVisibleTo(within)
        if is_there and takes_tab and isinstance(one, INPUTS):
            found.append(one)
        one = one.nextInFocusChain()
    return found


def by_place(widgets: list[QWidget], within: QWidget) -> list[QWidget]:
    places = {id(w): w.mapTo(within, QPoint(0, 0)) for w in widgets}
    return sorted(widgets, key=lambda w: (places[id(w)].y() // 8, places[id(w)].x()))


def test_what_runs_has_names_and_an_order_that_follow_the_eye(
    window: Any, qtbot: QtBot, trained: Path
) -> None:
    window.viewer.window._qt_window.show()
    train, runs = (open_widget(window.viewer, name) for name in (TRAIN, RUNS))
    dock_of(train).raise_()
    train.tabs.setCurrentWidget(train.view)
    qtbot.waitUntil(train.view.monitor.isVisible)
    dialog = ContinueDialog(open_run(trained.parents[1]), train)
    qtbot.addWidget(dialog)
    buttons = train.stop_button.parentWidget()
    for part in (train.view, buttons, runs, dialog):
        assert not unnamed(part)
    pressed = [one for one in in_tab_order(train) if buttons.isAncestorOf(one)]
    assert len(pressed) == 7
    assert pressed == by_place(pressed, train)
    # First what is trained on, then what is seen of it, then what is done with it.
    order = in_tab_order(train)
    places = [order.index(one) for one in (train.points_box, train.view.monitor.fold, *pressed)]
    assert places == sorted(places)
    dock_of(runs).raise_()
    qtbot.waitUntil(runs.table.isVisible)
    order = in_tab_order(runs)
    assert len(order) == 8
    assert order == by_place(order, runs)


def test_a_training_is_started_and_stopped_by_keys(
    window: Any, qtbot: QtBot, tmp_path: Path
) -> None:
    main = window.viewer.window._qt_window
    main.show()
    main.activateWindow()
    widget = open_widget(window.viewer, TRAIN)
    qtbot.waitUntil(widget.start_button.isVisible)
    fill_in(widget, {**ENDLESS, "output": tmp_path / "run"})
    assert START_KEYS in widget.start_button.toolTip()
    assert STOP_KEYS in widget.stop_button.toolTip()
    main.setFocus()
    # Nothing runs yet that could be stopped.
    qtbot.keyClick(main, Qt.Key.Key_Period, Qt.KeyboardModifier.ControlModifier)
    qtbot.keyClick(main, Qt.Key.Key_Return, Qt.KeyboardModifier.ControlModifier)
    qtbot.waitUntil(lambda: n_steps(widget) > 0, timeout=LONG)
    qtbot.keyClick(main, Qt.Key.Key_Period, Qt.KeyboardModifier.ControlModifier)
    wait_for_end(qtbot, widget)
    assert "stopped at step" in widget.status.text()


@pytest.mark.parametrize(("size", "font"), [((1280, 800), 14), ((1024, 700), 9)])
def test_nothing_is_cut_off(
    size: tuple[int, int], font: int, window: Any, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(get_settings().appearance, "font_size", font)
    main = window.viewer.window._qt_window
    main.show()
    main.resize(*size)
    for name in (TRAIN, RUNS):
        widget = open_widget(window.viewer, name)
        if name == TRAIN:
            widget.tabs.setCurrentWidget(widget.view)
            qtbot.waitUntil(widget.view.monitor.isVisible)
        qtbot.wait(300)
        assert main.width() <= size[0]
        assert main.height() <= size[1]
        for one in widget.findChildren(QPushButton):
            if one.isVisible():
                assert one.width() >= one.minimumSizeHint().width(), one.text()
                text = one.fontMetrics().horizontalAdvance(one.text())
                assert one.width() >= text, one.text()
        # What does not fit in height scrolls; in width nothing does but the table.
        for area in widget.findChildren(QScrollArea):
            if area.isVisible() and area.widget() is not None:
                least = area.widget().minimumSizeHint().width()
                assert area.viewport().width() >= least, area.widget()


@pytest.fixture(autouse=True)
def _nothing_left(no_children: None) -> None:
    pass

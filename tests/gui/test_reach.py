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
    QDockWidget,
    QLabel,
    QLineEdit,
    QProgressBar,
    QPushButton,
    QScrollArea,
    QSpinBox,
    QStyle,
    QWidget,
)
from superqt import QCollapsible

from napari_synapse_cl.widgets.button_rows import APART, GAP, Buttons
from napari_synapse_cl.widgets.look import OPEN, TITLES, ChoiceBox, dock_of
from napari_synapse_cl.widgets.train.controls import START_KEYS, STOP_KEYS, ContinueDialog, open_run

from .conftest import (
    ENDLESS,
    EXPLORE,
    EXTRACT,
    LONG,
    PREVIEW,
    RUNS,
    TRAIN,
    fill_in,
    n_steps,
    open_widget,
    wait_for_end,
)

INPUTS = (
    QAbstractButton,
    QAbstractItemView,
    QAbstractSpinBox,
    QComboBox,
    QLineEdit,
    QProgressBar,
)


TAB = Qt.FocusPolicy.TabFocus


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
    # Plots take no keys, nor does what they are drawn on.
    monitor = train.view.monitor
    for one in (monitor.losses, monitor.retrieval):
        assert not [w for w in one.findChildren(QWidget) if w.focusPolicy() & TAB]
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


def test_what_is_folded_away_is_not_in_the_way_of_tab(window: Any, qtbot: QtBot) -> None:
    window.viewer.window._qt_window.show()
    opener = open_widget(window.viewer, OPEN)
    qtbot.waitUntil(opener.open_button.isVisible)
    folded = in_tab_order(opener)
    assert folded == by_place(folded, opener)
    for group in opener.findChildren(QCollapsible):
        group.expand(animate=False)
    qtbot.waitUntil(opener.labels.line.isVisible)
    qtbot.wait(50)
    unfolded = in_tab_order(opener)
    assert opener.labels.line in set(unfolded) - set(folded)
    # They may be scrolled to a place below the buttons, and yet they come before these.
    fields = [one for one in unfolded if opener.fields.isAncestorOf(one)]
    assert fields == by_place(fields, opener)
    assert unfolded == [*fields, *(one for one in folded if one not in fields)]


def test_volumes_that_are_listed_are_reached_before_what_is_below(
    window: Any, qtbot: QtBot
) -> None:
    window.viewer.window._qt_window.show()
    widget = open_widget(window.viewer, TRAIN)
    qtbot.waitUntil(widget.volume_list.isVisible)
    widget.volume_list.add_button.click()
    [cross] = widget.volume_list.remove_buttons
    qtbot.waitUntil(cross.isVisible)
    order = in_tab_order(widget)
    places = [order.index(one) for one in (widget.points_box, cross, widget.presets.box)]
    assert places == sorted(places)


def test_long_names_of_volumes_go_on_in_a_further_line(window: Any, qtbot: QtBot) -> None:
    window.viewer.window._qt_window.show()
    widget = open_widget(window.viewer, TRAIN)
    widget.volume_list.add_button.click()
    name = "_".join(["a_volume_with_a_rather_long_name"] * 3)
    image = window.viewer.add_image(window.image.data, name=name, scale=window.image.scale)
    image.units = window.image.units
    widget.image_box.choose(image)
    qtbot.waitUntil(lambda: name in widget.summary.text().replace("\u200b", ""), timeout=LONG)
    area = widget.summary.parentWidget()
    qtbot.waitUntil(lambda: widget.summary.width() <= area.width())
    assert widget.summary.minimumSizeHint().width() < area.width()


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


def cut_off(widget: QWidget) -> list[str]:
    """What has not the room in a widget that its words or numbers take."""
    found = []
    for one in widget.findChildren(QWidget):
        if not one.isVisible():
            continue
        fits = True
        if isinstance(one, QLabel) and one.wordWrap():
            fits = one.height() >= one.heightForWidth(one.width()) - 1
        elif isinstance(one, QLabel | QAbstractButton) and one.text():
            text = one.fontMetrics().horizontalAdvance(one.text())
            is_rich = Qt.mightBeRichText(one.text())
            fits = (is_rich or one.width() >= text) and one.height() >= one.sizeHint().height() - 1
        elif isinstance(one, QAbstractSpinBox):
            text = one.fontMetrics().horizontalAdvance(one.text())
            fits = one.lineEdit().width() > text
        elif isinstance(one, QScrollArea) and one.widget() is not None:
            # What does not fit in height scrolls; in width nothing does but tables and paths.
            least = one.widget().minimumSizeHint().width()
            fits = one.horizontalScrollBar().isVisible() or one.viewport().width() >= least
        if not fits:
            words = one.text() if isinstance(one, QLabel | QAbstractButton | QSpinBox) else ""
            found.append(f"{type(one).__name__} {words} {one.size()}")
    return found


def _settled(qtbot: QtBot, widget: QWidget) -> None:
    """Wait until a widget is laid out with nothing cut off."""

    def check() -> None:
        assert not cut_off(widget)

    qtbot.waitUntil(check)


def title_of(widget: QWidget) -> QLabel:
    """What stands above a docked widget."""
    [title] = dock_of(widget).titleBarWidget().findChildren(QLabel)
    return title


LEAST_ROOM = 290
"""Pixels in which each of our docks has its place, at a font of 14."""


@pytest.mark.parametrize("name", [OPEN, TRAIN, PREVIEW, EXTRACT, EXPLORE, RUNS])
@pytest.mark.parametrize(("size", "font"), [((1280, 800), 14), ((1024, 700), 9), ((1024, 700), 14)])
def test_nothing_is_cut_off_and_the_window_is_no_larger_than_asked_for(
    name: str,
    size: tuple[int, int],
    font: int,
    window: Any,
    qtbot: QtBot,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    main = window.viewer.window._qt_window
    main.show()
    # Which napari's style sheet follows, and takes back at the end.
    monkeypatch.setattr(get_settings().appearance, "font_size", font)
    main.resize(*size)
    qtbot.wait(50)
    assert (main.width(), main.height()) == size
    own = [dock.minimumSizeHint().width() for dock in main.findChildren(QDockWidget)]
    between = main.style().pixelMetric(QStyle.PixelMetric.PM_DockWidgetSeparatorExtent)
    room = size[0] - main.centralWidget().minimumSizeHint().width() - max(own) - 2 * between
    if room < LEAST_ROOM:
        pytest.skip(f"napari's own parts leave {room} px beside them at this size")
    widget = open_widget(window.viewer, name)
    words = TITLES.get(name, name)
    qtbot.waitUntil(lambda: title_of(widget).text() == words)
    widest = set()
    if name == TRAIN:
        widget.page.advanced.toggle.setChecked(True)
    for unfolded in (False, True):
        for group in widget.findChildren(QCollapsible):
            (group.expand if unfolded else group.collapse)(animate=False)
        qtbot.wait(50)
        _settled(qtbot, widget)
        title = title_of(widget)
        assert title.width() >= title.fontMetrics().horizontalAdvance(words)
        if name == EXTRACT:
            shown = widget.form.parentWidget().height()
            assert shown >= min(widget.form.height(), 18 * widget.form.fontMetrics().lineSpacing())
        widest.add((main.width(), main.height()))
    if name == TRAIN:
        widget.tabs.setCurrentWidget(widget.view)
        qtbot.waitUntil(widget.view.monitor.isVisible)
        qtbot.wait(50)
        _settled(qtbot, widget)
    assert {*widest, (main.width(), main.height())} == {size}


def test_a_choice_of_nothing_says_what_it_stands_for(qtbot: QtBot) -> None:
    box = ChoiceBox()
    qtbot.addWidget(box)
    box.addItem("A column")
    box.setCurrentIndex(-1)
    blank = box.grab().toImage()
    box.setPlaceholderText("As found")
    assert box.grab().toImage() != blank


def test_buttons_go_on_in_a_further_row_and_what_lies_apart_stays_so(qtbot: QtBot) -> None:
    one, two, three = buttons = [QPushButton(f"Button {i}") for i in range(3)]
    row = Buttons((one, two, None, three))
    qtbot.addWidget(row)
    row.show()
    least = max(button.sizeHint().width() for button in buttons)
    row.resize(4 * least, 200)
    assert len({button.y() for button in buttons}) == 1
    assert three.x() > two.geometry().right() + APART
    wide = row.sizeHint().height()
    row.resize(2 * least + 2 * GAP, 200)
    assert one.y() == two.y() < three.y()
    assert three.geometry().right() == row.rect().right()
    assert wide < row.sizeHint().height() < row.minimumSizeHint().height() + 1
    two.setText("Button with more words")
    qtbot.waitUntil(lambda: one.y() < two.y() < three.y())
    assert row.minimumSizeHint().width() == two.sizeHint().width()


@pytest.fixture(autouse=True)
def _nothing_left(no_children: None) -> None:
    pass

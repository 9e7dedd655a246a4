"""The map of what is explored: what is drawn, picked, hidden, kept, and made by UMAP."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import napari
import numpy as np
import pandas as pd
import pytest
from napari.utils.notifications import Notification
from pytestqt.qtbot import QtBot
from qtpy.QtCore import QEvent, QPoint, QPointF, Qt, QThreadPool
from qtpy.QtGui import QMouseEvent, QWheelEvent
from qtpy.QtWidgets import QApplication

from napari_synapse_cl.widgets.explore.map.canvas import MapCanvas
from napari_synapse_cl.widgets.explore.map.dock import MapDock, open_map
from napari_synapse_cl.widgets.explore.map.kept_selections import kept_names, kept_rows
from napari_synapse_cl.widgets.explore.map.panel import MapPanel
from napari_synapse_cl.widgets.explore.map.picture import MOST_DOTS, Painter, Picture, Request
from napari_synapse_cl.widgets.explore.map.projection import UmapProcess
from napari_synapse_cl.widgets.explore.state import Exploration
from napari_synapse_cl.widgets.jobs.job import LatestOnly

from .conftest import LONG, click, job_processes, messages
from .test_explore import click_picture, explored, synapses
from .test_explore_state import table_of

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import explore_map

__all__ = ["synapses"]

RED, BLUE, GREY = (255, 0, 0, 255), (0, 0, 255, 255), (128, 128, 128, 255)
CORNERS = np.array([[0, 0], [10, 0], [0, 10], [10, 10]], np.float32)
"""Where points lie that are to be met with the mouse."""


def picture_of(positions: np.ndarray, colors: Any, **other: Any) -> Picture:
    n = len(positions)
    request = Request(
        positions=np.asarray(positions, np.float32),
        visible=other.get("visible", np.ones(n, bool)),
        colors=np.broadcast_to(np.array(colors, np.uint8), (n, 4)),
        selected=other.get("selected", np.zeros(n, bool)),
        view=None,
        width=200,
        height=100,
        ratio=other.get("ratio", 1.0),
        blank=GREY,
        ring=(255, 255, 255, 255),
    )
    return Painter().paint(request)


def color_at(picture: Picture, place: Any) -> tuple[int, ...]:
    """Return red, green, blue and opacity where a place is drawn."""
    x, y = picture.view.to_pixels(*np.asarray(place, float))
    ratio = picture.image.width() / picture.view.width
    return picture.image.pixelColor(int(x * ratio), int(y * ratio)).getRgb()


class TestPicture:
    @pytest.mark.parametrize("ratio", [1.0, 2.0])
    def test_a_dot_has_its_colour_where_it_lies(self, ratio: float) -> None:
        colors = [RED, BLUE, (9, 9, 9, 0), RED]
        picture = picture_of(CORNERS, colors, ratio=ratio)
        assert picture.image.width() == 200 * ratio
        assert [color_at(picture, place) for place in CORNERS] == [RED, BLUE, GREY, RED]
        assert color_at(picture, (5, 5))[3] == 0
        assert (picture.n_in_sight, picture.is_density) == (4, False)

    def test_what_is_hidden_or_has_no_place_is_not_drawn(self) -> None:
        places = np.concatenate([CORNERS, [[np.nan, 0], [np.inf, 5]]])
        picture = picture_of(places, RED, visible=np.arange(6) != 1)
        assert picture.n_in_sight == 3
        assert color_at(picture, CORNERS[1])[3] == 0
        assert not picture_of(places[4:], RED).n_in_sight

    def test_what_is_not_selected_is_dimmed(self) -> None:
        picture = picture_of(CORNERS, RED, selected=np.arange(4) == 2)
        assert color_at(picture, CORNERS[2]) == RED
        assert 40 < color_at(picture, CORNERS[0])[3] < 100

    def test_squares_of_many_points_mix_their_colours(self) -> None:
        n = MOST_DOTS + 1
        places = np.zeros((n, 2), np.float32)
        # Two thirds of the points of one place are red, those of the other are blue.
        places[n // 2 :] = 10
        colors = np.where((np.arange(n) % 3 == 0)[:, None], BLUE, RED)
        colors[n // 2 :] = BLUE
        picture = picture_of(places, colors)
        assert (picture.n_in_sight, picture.is_density) == (n, True)
        red, _, blue, opacity = color_at(picture, (0, 0))
        assert red / blue == pytest.approx(2, rel=0.05)
        assert opacity > 250
        assert color_at(picture, (10, 10)) == BLUE
        chosen = picture_of(places, colors, selected=np.arange(n) < 5)
        assert color_at(chosen, (10, 10))[3] < 100 < color_at(chosen, (0, 0))[3]


def mouse(canvas: MapCanvas, kind: str, at: QPointF, held: Any = None, keys: Any = None) -> None:
    left, none = Qt.MouseButton.LeftButton, Qt.MouseButton.NoButton
    types = QEvent.Type
    event = QMouseEvent(
        {
            "press": types.MouseButtonPress,
            "move": types.MouseMove,
            "release": types.MouseButtonRelease,
        }[kind],
        at,
        canvas.mapToGlobal(at),
        none if kind == "move" else left,
        held or none,
        keys or Qt.KeyboardModifier.NoModifier,
    )
    QApplication.sendEvent(canvas, event)


def pixel(canvas: MapCanvas, place: Any) -> QPointF:
    x, y = canvas.view.to_pixels(*np.asarray(place, float))
    return QPointF(float(x), float(y))


def drag(canvas: MapCanvas, places: Any, keys: Any = None) -> None:
    """Drag the mouse along places of the map."""
    first, *others = [pixel(canvas, place) for place in places]
    mouse(canvas, "press", first, Qt.MouseButton.LeftButton)
    for at in others:
        mouse(canvas, "move", at, Qt.MouseButton.LeftButton)
    mouse(canvas, "release", others[-1] if others else first, keys=keys)


def wheel(canvas: MapCanvas, at: QPointF, steps: int) -> None:
    none = Qt.MouseButton.NoButton
    keys, phase = Qt.KeyboardModifier.NoModifier, Qt.ScrollPhase.NoScrollPhase
    turned = QPoint(0, 120 * steps)
    event = QWheelEvent(at, canvas.mapToGlobal(at), QPoint(), turned, none, keys, phase, False)
    QApplication.sendEvent(canvas, event)


def settle(qtbot: QtBot, canvas: MapCanvas) -> None:
    qtbot.waitUntil(lambda: canvas.is_up_to_date, timeout=LONG)


LEFT_HALF = [(-3, -3), (4, -3), (4, 13), (-3, 13)]


@pytest.fixture
def canvas(qtbot: QtBot) -> MapCanvas:
    """A map of four points, whose picks are noted."""
    canvas = MapCanvas(SimpleNamespace(theme="dark"))
    qtbot.addWidget(canvas)
    canvas.resize(300, 240)
    canvas.show()
    canvas.set_positions(CORNERS)
    settle(qtbot, canvas)
    canvas.picks = []
    canvas.picked.connect(lambda rows, change: canvas.picks.append((rows.tolist(), change)))
    return canvas


class TestMouse:
    def test_what_a_lasso_or_a_rectangle_surrounds_is_picked(self, canvas: Any) -> None:
        keys = Qt.KeyboardModifier
        canvas.set_mode("lasso")
        drag(canvas, LEFT_HALF)
        drag(canvas, LEFT_HALF, keys.ShiftModifier)
        drag(canvas, LEFT_HALF, keys.AltModifier)
        canvas.set_mode("rectangle")
        drag(canvas, [(-2, 12), (12, 8)], keys.ControlModifier)
        left, upper = [0, 2], [2, 3]
        changes = ["replace", "add", "remove", "remove"]
        assert canvas.picks == list(zip([left, left, left, upper], changes, strict=True))

    def test_a_click_picks_the_nearest_and_one_beside_all_none(self, canvas: Any) -> None:
        for mode in ("click", "lasso", "rectangle"):
            canvas.set_mode(mode)
            drag(canvas, [(9.9, 0.1)])
        drag(canvas, [(5, 5)])
        drag(canvas, [(5, 5)], Qt.KeyboardModifier.ShiftModifier)
        assert canvas.picks == [([1], "replace")] * 3 + [([], "replace")]

    def test_what_is_hidden_is_not_picked(self, canvas: Any, qtbot: QtBot) -> None:
        canvas.set_visible(np.array([True, True, False, True]))
        settle(qtbot, canvas)
        canvas.set_mode("lasso")
        drag(canvas, LEFT_HALF)
        assert canvas.picks == [([0], "replace")]

    def test_a_lasso_is_ended_by_escape(self, canvas: Any, qtbot: QtBot) -> None:
        canvas.set_mode("lasso")
        mouse(canvas, "press", pixel(canvas, (0, 0)), Qt.MouseButton.LeftButton)
        mouse(canvas, "move", pixel(canvas, (5, 5)), Qt.MouseButton.LeftButton)
        qtbot.keyClick(canvas, Qt.Key.Key_Escape)
        mouse(canvas, "release", pixel(canvas, (5, 5)))
        assert not canvas.picks

    def test_a_drag_moves_and_the_wheel_zooms_where_the_mouse_is(
        self, canvas: Any, qtbot: QtBot
    ) -> None:
        whole = canvas.view
        start = pixel(canvas, (3, 3))
        drag(canvas, [(3, 3), (5, 4)])
        np.testing.assert_allclose(canvas.view.place(start.x(), start.y()), (1, 2))
        at = pixel(canvas, (1, 2))
        wheel(canvas, at, 2)
        np.testing.assert_allclose(canvas.view.place(at.x(), at.y()), (1, 2))
        assert canvas.view.scale > 1.4 * whole.scale
        wheel(canvas, at, 1000)
        assert canvas.view.scale == pytest.approx(1e4 * whole.scale)
        assert not canvas.picks
        settle(qtbot, canvas)
        assert not canvas.picture.n_in_sight
        qtbot.keyClick(canvas, Qt.Key.Key_Home)
        settle(qtbot, canvas)
        assert canvas.view == whole
        qtbot.keyClick(canvas, Qt.Key.Key_Right)
        qtbot.keyClick(canvas, Qt.Key.Key_Plus)
        assert canvas.view.x > whole.x
        assert canvas.view.scale > whole.scale

    def test_what_the_mouse_points_at_is_told(self, canvas: Any) -> None:
        rows: list[int] = []
        canvas.hovered.connect(rows.append)
        for place in ((0.1, 9.9), (0.1, 9.9), (5, 5), (10, 10)):
            mouse(canvas, "move", pixel(canvas, place))
        QApplication.sendEvent(canvas, QEvent(QEvent.Type.Leave))
        assert rows == [2, -1, 3, -1]

    def test_a_map_in_another_size_shows_all_again(self, canvas: Any, qtbot: QtBot) -> None:
        canvas.resize(500, 400)
        settle(qtbot, canvas)
        assert canvas.view.width == 500
        assert canvas.picture.n_in_sight == 4


def n_vectors(n: int = 60) -> np.ndarray:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(n, 8)) + 4 * np.eye(2, 8)[np.arange(n) % 2]
    values[n - 1, 0] = np.nan
    return values.astype(np.float32)


@pytest.fixture
def shown(make_napari_viewer: Callable[..., napari.Viewer], qtbot: QtBot) -> Iterator[Any]:
    """A viewer with points of two kinds, and their map; the last has no vector."""
    viewer = make_napari_viewer(show=True)
    n = 60
    rng = np.random.default_rng(1)
    features = pd.DataFrame({"kind": np.array(["a", "b"])[np.arange(n) % 2], "id": 2**60})
    layer = viewer.add_points(rng.random((n, 3)) * 100, features=features, name="synapses")
    state = Exploration()
    panel = MapPanel(viewer, state)
    dock = viewer.window.add_dock_widget(panel, name="Map")
    state.explore(layer, table_of(n_vectors(n)))
    qtbot.waitUntil(lambda: panel.projection is not None, timeout=LONG)
    settle(qtbot, panel.canvas)
    yield SimpleNamespace(viewer=viewer, layer=layer, state=state, panel=panel, dock=dock)
    panel.release()
    state.leave()


def near(shown: Any, row: int) -> Any:
    return shown.panel.projection.positions[row]


class TestPanel:
    def test_principal_components_are_there_at_once(self, shown: Any) -> None:
        panel = shown.panel
        assert "Components with" in panel.status.text()
        assert "59 of 60 in sight" in panel.status.text()
        assert "1 are not in this map" in panel.status.text()
        assert np.isnan(near(shown, 59)).all()
        # The two kinds lie apart.
        first = panel.projection.positions[:59, 0]
        assert (first[::2] > 0).all() != (first[1::2] > 0).all()

    def test_selection_is_the_same_in_map_and_viewer(self, shown: Any, qtbot: QtBot) -> None:
        canvas, layer = shown.panel.canvas, shown.layer
        click(qtbot, shown.panel.tool_buttons["Click"])
        drag(canvas, [near(shown, 7)])
        assert layer.selected_data == {7}
        drag(canvas, [near(shown, 12)], Qt.KeyboardModifier.ShiftModifier)
        assert layer.selected_data == {7, 12}
        drag(canvas, [near(shown, 7)], Qt.KeyboardModifier.AltModifier)
        assert shown.state.selected.tolist() == [12]
        layer.selected_data = {3, 4, 5}
        settle(qtbot, canvas)
        assert np.flatnonzero(canvas.picture.request.selected).tolist() == [3, 4, 5]

    def test_colours_and_hidden_classes_are_the_same_in_map_and_viewer(
        self, shown: Any, qtbot: QtBot
    ) -> None:
        panel, layer, classes = shown.panel, shown.layer, shown.panel.legend.classes
        assert not classes.isVisible()
        panel.color_box.choose("kind")
        panel.color_box.chosen.emit()
        settle(qtbot, panel.canvas)
        assert [classes.item(i).text() for i in range(2)] == ["a (30)", "b (30)"]
        np.testing.assert_array_equal(panel.canvas.picture.request.colors, shown.state.colors)
        classes.item(1).setCheckState(Qt.CheckState.Unchecked)
        settle(qtbot, panel.canvas)
        assert layer.shown.tolist() == [i % 2 == 0 for i in range(60)]
        assert panel.canvas.picture.n_in_sight == 30
        shown.state.toggle("b")
        assert classes.item(1).checkState() == Qt.CheckState.Checked
        mouse(panel.canvas, "move", pixel(panel.canvas, near(shown, 4)))
        assert "Row 4 · kind: a" in panel.status.text()
        shown.state.set_column("score", np.arange(60.0))
        shown.state.color_by("score")
        assert panel.color_box.column == "score"
        assert not classes.isVisible()
        assert panel.legend.text.text().startswith("0 <span")

    def test_points_that_are_deleted_leave_the_others_where_they_are(
        self, shown: Any, qtbot: QtBot
    ) -> None:
        before = shown.panel.projection.positions
        shown.layer.selected_data = {0, 30}
        shown.layer.remove_selected()
        left = np.delete(np.arange(60), [0, 30])
        np.testing.assert_array_equal(shown.panel.projection.positions, before[left])
        shown.layer.add([[1, 2, 3]])
        settle(qtbot, shown.panel.canvas)
        assert np.isnan(near(shown, 58)).all()
        assert shown.panel.canvas.picture.n_in_sight == 57
        shown.layer.data = shown.layer.data[:1]
        settle(qtbot, shown.panel.canvas)
        assert shown.panel.canvas.picture.n_in_sight == 1
        shown.state.leave()
        assert shown.panel.projection is None

    def test_selections_are_kept_under_names_and_follow_their_points(
        self, shown: Any, qtbot: QtBot, notifications: list[Notification]
    ) -> None:
        kept, state = shown.panel.kept, shown.state
        assert not kept.keep_button.isEnabled()
        state.select([5, 6, 9])
        click(qtbot, kept.keep_button)
        kept.box.setEditText("kind")
        click(qtbot, kept.keep_button)
        assert messages(notifications, "error") == [
            "Name the selection before you keep it.",
            "The points have a column kind already: choose another name.",
        ]
        kept.box.setEditText("odd ones")
        click(qtbot, kept.keep_button)
        assert kept_names(state) == ["odd ones"]
        assert shown.layer.features["odd ones"].sum() == 3
        state.select([1])
        shown.layer.remove([0, 6])
        click(qtbot, kept.select_button)
        assert state.selected.tolist() == [4, 7]
        shown.layer.add([[1, 2, 3]])
        assert kept_rows(state, "odd ones").tolist() == [4, 7]
        click(qtbot, kept.remove_button)
        assert kept_names(state) == []
        assert "odd ones" not in shown.layer.features
        assert not kept.select_button.isEnabled()


class TestDock:
    def test_it_opens_beside_the_gallery_and_all_of_them_are_the_same(
        self, synapses: Any, qtbot: QtBot
    ) -> None:
        explore, viewer = explored(qtbot, synapses), synapses.viewer
        click(qtbot, explore.map_button)
        [dock] = [w for w in viewer.window.dock_widgets.values() if isinstance(w, MapDock)]
        panel = dock.panel
        qtbot.waitUntil(lambda: panel.projection is not None, timeout=LONG)
        settle(qtbot, panel.canvas)
        assert panel.canvas.isVisible()
        click(qtbot, explore.map_button)
        assert sum(isinstance(w, MapDock) for w in viewer.window.dock_widgets.values()) == 1
        # From the map to the gallery and the viewer, and back.
        row = int(np.flatnonzero(~np.isnan(panel.projection.positions[:, 0]))[0])
        click(qtbot, panel.tool_buttons["Click"])
        drag(panel.canvas, [panel.projection.positions[row]])
        assert synapses.points.selected_data == set(explore.state.selected.tolist())
        click_picture(qtbot, explore, 1)
        settle(qtbot, panel.canvas)
        chosen = np.flatnonzero(panel.canvas.picture.request.selected)
        assert chosen.tolist() == sorted(synapses.points.selected_data)
        panel.color_box.choose("class")
        panel.color_box.chosen.emit()
        assert explore.color_box.column == "class"
        explore.color_box.choose(None)
        explore.color_box.chosen.emit()
        assert panel.color_box.column is None
        viewer.theme = "light"
        settle(qtbot, panel.canvas)
        # Of another vector there is another map, and of none none.
        first = panel.projection
        explore.vector_box.setCurrentIndex(1)
        explore.vector_box.activated.emit(1)
        qtbot.waitUntil(lambda: panel.projection not in (None, first), timeout=LONG)
        viewer.layers.remove(synapses.points)
        assert panel.projection is None
        viewer.window.remove_dock_widget(explore)
        assert not any(isinstance(w, MapDock) for w in viewer.window.dock_widgets.values())


FAKE_UMAP = """
import sys, time, os
import numpy as np
class UMAP:
    def __init__(self, **options):
        assert options["random_state"] == 0
        self.file = options["tqdm_kwds"]["file"]
    def fit_transform(self, values):
        print("what a library says")
        for epoch in range(3):
            self.file.write(f"{epoch}/3\\n")
        if os.environ.get("SLOW"):
            time.sleep(1000)
        if os.environ.get("BROKEN"):
            raise ValueError("no such neighbours")
        return np.stack([np.arange(len(values)), -np.arange(len(values))], axis=1)
"""


class TestUmap:
    @pytest.fixture
    def quick_starts(self) -> None:
        """Here the process is started as for people: it finds another UMAP."""

    @pytest.fixture(autouse=True)
    def fake(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_children: None) -> None:
        (tmp_path / "umap.py").write_text(FAKE_UMAP)
        monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{':'}{':'.join(sys.path)}")
        monkeypatch.syspath_prepend(tmp_path)

    def choose(self, panel: MapPanel, text: str) -> None:
        panel.map_box.setCurrentText(text)
        panel.map_box.activated.emit(panel.map_box.currentIndex())

    def test_all_or_the_selected_are_mapped(self, shown: Any, qtbot: QtBot) -> None:
        panel, told = shown.panel, []
        panel._projector.told.connect(told.append)
        self.choose(panel, "UMAP of all")
        assert panel.stop_button.isEnabled()
        qtbot.waitUntil(lambda: panel.projection.kind == "umap", timeout=LONG)
        assert told == ["UMAP of 59 vectors begins …", *(f"UMAP: epoch {i} of 3" for i in range(3))]
        np.testing.assert_array_equal(near(shown, 58), [58, -58])
        assert np.isnan(near(shown, 59)).all()
        assert not panel.stop_button.isEnabled()
        shown.state.select([4, 8, 30, 50, 59])
        self.choose(panel, "UMAP of the selected")
        qtbot.waitUntil(lambda: panel.projection.kind == "umap of selected", timeout=LONG)
        assert np.flatnonzero(~np.isnan(panel.projection.positions[:, 0])).tolist() == [
            4,
            8,
            30,
            50,
        ]
        settle(qtbot, panel.canvas)
        assert "56 are not in this map" in panel.status.text()

    def test_it_is_stopped_by_its_button_another_map_and_a_closed_dock(
        self, shown: Any, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SLOW", "1")
        panel, told = shown.panel, []
        panel._projector.told.connect(told.append)
        endings = (
            lambda: click(qtbot, panel.stop_button),
            lambda: self.choose(panel, "Principal components"),
            panel.release,
        )
        for end in endings:
            told.clear()
            self.choose(panel, "UMAP of all")
            qtbot.waitUntil(lambda: "UMAP: epoch 2 of 3" in told, timeout=LONG)
            assert job_processes()
            end()
            qtbot.waitUntil(lambda: not job_processes(), timeout=LONG)
        assert panel.projection.kind == "components"

    def test_it_ends_when_napari_is_closed(
        self, synapses: Any, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SLOW", "1")
        explore, told = explored(qtbot, synapses), []
        panel = open_map(synapses.viewer, explore.state).panel
        qtbot.waitUntil(lambda: panel.projection is not None, timeout=LONG)
        panel._projector.told.connect(told.append)
        self.choose(panel, "UMAP of all")
        qtbot.waitUntil(lambda: "UMAP: epoch 2 of 3" in told, timeout=LONG)
        assert job_processes()
        assert synapses.viewer.window._qt_window.close()
        # Or napari's fixture would close it again.
        del synapses.viewer.window._qt_window
        qtbot.waitUntil(lambda: not job_processes(), timeout=LONG)

    def test_a_crash_and_a_missing_library_are_told(
        self,
        shown: Any,
        qtbot: QtBot,
        monkeypatch: pytest.MonkeyPatch,
        notifications: list[Notification],
    ) -> None:
        monkeypatch.setenv("BROKEN", "1")
        panel = shown.panel
        self.choose(panel, "UMAP of all")
        qtbot.waitUntil(lambda: len(messages(notifications, "error")) == 1, timeout=LONG)
        assert "UMAP could not make a map: ValueError: no such neighbours." in (
            messages(notifications, "error")
        )
        assert panel.map_box.currentText() == "Principal components"
        shown.state.select([1, 2])
        self.choose(panel, "UMAP of the selected")
        monkeypatch.setattr("napari_synapse_cl.features.projections.find_spec", lambda _: None)
        self.choose(panel, "UMAP of all")
        few, missing = messages(notifications, "error")[1:]
        assert few == "UMAP needs 4 vectors at least, and these are 2."
        assert "umap-learn, which is not installed" in missing

    def test_it_ends_with_whoever_started_it(self) -> None:
        command = [sys.executable, "-m", "napari_synapse_cl.features.projections", "0"]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        with process:
            assert process.stdin is not None
            process.stdin.write(b'{"shape": [9, 1]}\n' + bytes(4 * 9))
            process.stdin.close()
            assert process.wait(60) in (0, 1)


class TestLibrary:
    @pytest.fixture
    def quick_starts(self) -> None:
        """Here the process is started as for people."""

    def test_umap_of_the_library_parts_what_is_apart(self, monkeypatch: pytest.MonkeyPatch) -> None:
        pytest.importorskip("umap")
        # To compile what so few points need takes ten times as long.
        monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
        values, told = n_vectors(20)[:19], []
        positions = UmapProcess().make(values, lambda *epoch: told.append(epoch))
        middles = positions[::2].mean(axis=0), positions[1::2].mean(axis=0)
        apart = np.linalg.norm(middles[0] - middles[1])
        assert apart > 2 * np.linalg.norm(positions[::2] - middles[0], axis=1).mean()
        assert told[-1][0] == told[-1][1] > 10


def test_the_benchmark_measures_a_map(qtbot: QtBot) -> None:
    canvas = MapCanvas(SimpleNamespace(theme="light"))
    qtbot.addWidget(canvas)
    canvas.resize(*explore_map.SIZE)
    canvas.show()
    positions, colors = explore_map.some_points(2000)
    canvas.set_positions(positions)
    canvas.set_colors(colors)
    explore_map.wait(canvas)
    found = explore_map.measure(canvas, 2)
    assert {len(taken) for taken in found.values()} == {2}
    assert all(value > 0 for taken in found.values() for value in taken)


def test_what_takes_long_keeps_no_picture_waiting(qtbot: QtBot) -> None:
    """Each has a thread of its own, however many cores there are."""
    going_on, n = threading.Event(), QThreadPool.globalInstance().maxThreadCount() + 2
    long = [LatestOnly(going_on.wait) for _ in range(n)]
    for one in long:
        one.ask(LONG / 1000)
    quick = LatestOnly(lambda: "picture")
    try:
        with qtbot.waitSignal(quick.done, timeout=5000) as told:
            quick.ask()
        assert told.args == ["picture"]
    finally:
        for one in long:
            one.forget()
        going_on.set()
        QThreadPool.globalInstance().waitForDone(5000)

"""File ▸ Open Sample: the window lives on while the sample is drawn, once; then it is kept."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import napari
import numpy as np
import pytest
from napari.layers import Image, Points
from napari.utils import progress
from napari.utils.notifications import Notification
from pytestqt.qtbot import QtBot
from qtpy.QtCore import Qt, QTimer

from conftest import full_disk
from napari_synapse_cl.data.sample import storage
from napari_synapse_cl.data.sample.storage import sample_events, write_sample
from napari_synapse_cl.data.sample.volume import N_STEPS, Sample
from napari_synapse_cl.errors import InputError, JobError
from napari_synapse_cl.runs.events import Message, Progress
from napari_synapse_cl.widgets.open_data.layers import CLASS_COLORS
from napari_synapse_cl.widgets.open_data.sample import SampleJob, _awaited

from .conftest import PLUGIN, job_processes, messages

NAME = "napari_synapse_cl"
SMALLER = (112, 160, 160)
DRAW = f"""
import sys
from functools import partial
from napari_synapse_cl.data.sample import storage, volume
volume.make_sample = partial(volume.make_sample, shape={SMALLER}, n_synapses=24)
storage.main(*sys.argv[-2:])
"""
LONGEST_GAP = 0.5
"""Seconds that the window may not answer; far more than on a machine with nothing else to do."""
DRAWN = "Drawing the sample: up to a minute."


@pytest.fixture
def drawn(sample: Sample, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The seeds that were drawn with; the full sample takes seconds, and a small one does."""
    seeds: list[int] = []

    def draw(self: SampleJob, file: Path, seed: int) -> Iterator[Progress]:
        seeds.append(seed)
        yield Progress("drawing the sample volume", 1, 2)
        write_sample(file, sample)

    monkeypatch.setattr(SampleJob, "_draw", draw)
    return seeds


def opened(seed: int = 0) -> tuple[Sample, list[str]]:
    """Return the sample, and the warnings that came before it."""
    *before, found = sample_events(SampleJob()._draw, seed)
    assert isinstance(found, Sample)
    return found, [e.text for e in before if isinstance(e, Message) and e.level == "warning"]


def same(a: Sample, b: Sample) -> bool:
    return (
        np.array_equal(a.image, b.image)
        and a.image.dtype == b.image.dtype
        and a.synapses.equals(b.synapses)
        and bool((a.synapses.dtypes == b.synapses.dtypes).all())
        and a.voxel_size == b.voxel_size
    )


class TestKeeping:
    def test_what_is_read_is_what_was_drawn(self, sample: Sample, drawn: list[int]) -> None:
        for _ in range(2):
            found, said = opened()
            assert same(found, sample)
            assert said == []
        assert drawn == [0]

    def test_another_seed_and_another_version_are_drawn_for_themselves(
        self, drawn: list[int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        opened(0)
        opened(1)
        monkeypatch.setattr(storage, "__version__", "99")
        opened(0)
        assert drawn == [0, 1, 0]

    @pytest.mark.parametrize(
        "damage",
        ["cut off", "a voxel changed", "something else", "empty", "another table"],
    )
    def test_a_damaged_file_is_said_and_drawn_anew(
        self, sample: Sample, drawn: list[int], damage: str
    ) -> None:
        opened()
        assert storage.CACHE is not None
        (file,) = storage.CACHE.iterdir()
        content = bytearray(file.read_bytes())
        if damage == "another table":
            np.savez(file, image=np.zeros((2, 2, 2), np.uint8))
        elif damage == "something else":
            file.write_text("no sample")
        else:
            content[len(content) // 2] ^= 255
            n_bytes = {"cut off": -1000, "a voxel changed": None, "empty": 0}[damage]
            file.write_bytes(content[:n_bytes])
        found, [said] = opened()
        assert same(found, sample)
        assert f"the sample volume in {file} is damaged, and is drawn anew: " in said
        found, said_now = opened()
        assert same(found, sample)
        assert said_now == []
        assert drawn == [0, 0]

    def test_without_a_place_for_it_it_is_drawn_each_time_and_that_is_said(
        self, sample: Sample, drawn: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        blocked = tmp_path / "a file in the place of the folder"
        blocked.write_text("")
        for folder, why in [(None, "no folder for it"), (blocked, f"{blocked}: File exists")]:
            monkeypatch.setattr(storage, "CACHE", folder)
            for _ in range(2):
                found, [said] = opened()
                assert same(found, sample)
                assert "cannot be kept, and is drawn anew each time: " in said
                assert why in said
        assert drawn == [0] * 4

    def test_a_full_disk_is_said_by_the_window_and_nothing_is_left(
        self, drawn: list[int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with (
            full_disk(100_000),
            pytest.raises(JobError, match=r"cannot be drawn: .*File too large"),
        ):
            list(SampleJob().events())


def pids() -> set[int]:
    return {process.pid for process in job_processes()}


class Ticks:
    """How long the window did not answer while the sample was waited for.

    What napari takes to show layers comes after it.
    """

    def __init__(self) -> None:
        self.longest = 0.0
        self.n = 0
        self._last = time.perf_counter()
        self._timer = QTimer(interval=10, timerType=Qt.TimerType.PreciseTimer, timeout=self._tick)
        self._timer.start()

    def _tick(self) -> None:
        now = time.perf_counter()
        if _awaited:
            self.longest = max(self.longest, now - self._last)
            self.n += 1
        self._last = now


class TestInTheWindow:
    @pytest.fixture
    def held(self, drawn: list[int], sample: Sample, monkeypatch: pytest.MonkeyPatch) -> Any:
        """Drawing that goes on until it is let go."""
        go = threading.Event()

        def draw(self: SampleJob, file: Path, seed: int) -> Iterator[Progress]:
            go.wait(20)
            write_sample(file, sample)
            yield Progress("drawing the sample volume", 2, 2)

        monkeypatch.setattr(SampleJob, "_draw", draw)
        yield go
        go.set()

    def test_is_a_volume_and_classified_points(
        self, make_napari_viewer: Callable[..., napari.Viewer], drawn: list[int], sample: Sample
    ) -> None:
        viewer = make_napari_viewer()
        viewer.open_sample(PLUGIN, "em_sample")
        image, points = viewer.layers
        assert (image.name, points.name) == ("EM sample", "Synapses")
        assert isinstance(image, Image)
        assert isinstance(points, Points)
        for layer in (image, points):
            np.testing.assert_allclose(layer.scale, sample.voxel_size)
            assert [str(unit) for unit in layer.units] == ["nanometer"] * 3
        np.testing.assert_array_equal(points.data, sample.synapses[["z", "y", "x"]])
        assert list(points.features["class"]) == list(sample.synapses["class"])
        n_colors = len(np.unique(points.face_color, axis=0))
        assert n_colors == sample.synapses["class"].nunique() <= len(CLASS_COLORS)

    @pytest.mark.usefixtures("no_children")
    def test_is_drawn_by_a_process_of_its_own_while_the_window_answers(
        self,
        make_napari_viewer: Callable[..., napari.Viewer],
        qtbot: QtBot,
        notifications: list[Notification],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        # A sixth of it takes seconds too.
        monkeypatch.setattr(f"{NAME}.widgets.open_data.sample.PYTHON", [sys.executable, "-c", DRAW])
        viewer = make_napari_viewer(show=True)
        qtbot.wait(300)
        processes: set[int] = set()
        look = QTimer(interval=500, timeout=lambda: processes.update(pids()))
        look.start()
        ticks = Ticks()
        image, points = viewer.open_sample(PLUGIN, "em_sample")
        assert processes
        assert image.data.shape == SMALLER
        assert len(points.data) == 24
        assert messages(notifications, "info") == [DRAWN]
        assert 0 < ticks.longest < LONGEST_GAP
        assert ticks.n > 50
        viewer.layers.clear()
        processes.clear()
        again, _ = viewer.open_sample(PLUGIN, "em_sample")
        assert not processes
        np.testing.assert_array_equal(again.data, image.data)
        assert messages(notifications, "info") == [DRAWN]

    def test_what_is_opened_meanwhile_is_not_taken_for_the_sample_and_a_second_click_is_told(
        self, make_napari_viewer: Callable[..., napari.Viewer], held: threading.Event
    ) -> None:
        viewer = make_napari_viewer()
        refused: list[str] = []

        def meanwhile() -> None:
            viewer.add_image(np.zeros((4, 4, 4)), name="mine")
            try:
                viewer.open_sample(PLUGIN, "em_sample")
            except InputError as error:
                refused.append(str(error))
            held.set()

        QTimer.singleShot(100, meanwhile)
        viewer.open_sample(PLUGIN, "em_sample")
        assert [layer.name for layer in viewer.layers] == ["mine", "EM sample", "Synapses"]
        mine, image, points = viewer.layers
        assert mine.source.sample is None
        assert image.source.sample == points.source.sample == (PLUGIN, "em_sample")
        assert isinstance(image, Image)
        assert isinstance(points, Points)
        assert refused == ["the sample volume is being opened already: it will be there soon"]

    def test_how_far_it_is_stands_in_the_activity_dock(
        self,
        make_napari_viewer: Callable[..., napari.Viewer],
        drawn: list[int],
        sample: Sample,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        go = threading.Event()

        def draw(self: SampleJob, file: Path, seed: int) -> Iterator[Progress]:
            write_sample(file, sample)
            yield Progress("drawing the sample volume", 3, 5)
            go.wait(20)

        monkeypatch.setattr(SampleJob, "_draw", draw)
        shown: list[tuple[str, int, int]] = []

        def look() -> None:
            bars = [bar for bar in progress._all_instances if bar.n]
            if not bars:
                QTimer.singleShot(50, look)
                return
            shown.extend((bar.desc, bar.n, bar.total) for bar in bars)
            go.set()

        QTimer.singleShot(50, look)
        viewer = make_napari_viewer()
        viewer.open_sample(PLUGIN, "em_sample")
        assert shown == [("Drawing the sample volume: ", 3, 5)]
        assert not progress._all_instances

    def test_a_window_that_is_closed_meanwhile_ends_it(
        self,
        make_napari_viewer: Callable[..., napari.Viewer],
        held: threading.Event,
        qtbot: QtBot,
    ) -> None:
        viewer = make_napari_viewer()
        QTimer.singleShot(100, viewer.close)
        with pytest.raises(JobError, match="the window was closed before"):
            viewer.open_sample(PLUGIN, "em_sample")
        assert not viewer.layers

    def test_a_process_that_fails_is_told_with_its_last_words(
        self, make_napari_viewer: Callable[..., napari.Viewer], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("napari_synapse_cl.widgets.open_data.sample.PROGRAM", f"{NAME}.none")
        viewer = make_napari_viewer()
        with pytest.raises(JobError, match=r"cannot be drawn: .*No module named"):
            viewer.open_sample(PLUGIN, "em_sample")
        assert not viewer.layers


def test_the_steps_are_told_one_by_one(sample: Sample) -> None:
    from napari_synapse_cl.data.sample.volume import make_sample

    told: list[int] = []
    again = make_sample(0, shape=(96, 128, 128), n_synapses=12, tell=told.append)
    assert told == list(range(1, N_STEPS + 1))
    np.testing.assert_array_equal(again.image, sample.image)

"""What the tests of the window share: a viewer on a small sample, and small settings."""

import gc
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import napari
import napari.window
import numpy as np
import pandas as pd
import psutil
import pyarrow as pa
import pytest
from napari.layers import Image, Layer, Points
from napari.settings import get_settings
from napari.utils.notifications import Notification, notification_manager
from npe2 import PluginManager
from pyarrow import parquet
from pytestqt.qtbot import QtBot
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QApplication, QDialog, QFileDialog, QPushButton, QWidget

from conftest import wait_for
from forks import IMPORTED, Fork, is_job
from napari_synapse_cl.data.sample.volume import Sample
from napari_synapse_cl.widgets.look import EXPLORE, EXTRACT, PLUGIN, PREVIEW, RUNS, TRAIN, open_dock
from napari_synapse_cl.widgets.open_data.layers import sample_layers

__all__ = ["EXPLORE", "EXTRACT", "PLUGIN", "PREVIEW", "RUNS", "TRAIN"]

LONG = 120_000
"""Milliseconds that a slow machine may take to start a process and import PyTorch there."""

SMALL = {
    "crop_size": "16",
    "batch_size": 4,
    "num_epochs": 2,
    "learning_rate": "1e-3",
    "fmaps": 2,
    "proj_dim": 8,
    "proj_hidden_dim": 32,
    "device": "cpu",
    "precision": "float32",
}
"""Settings of a training that takes seconds."""

ENDLESS = {**SMALL, "num_epochs": 100_000}

WIDGETS = [
    f"napari_synapse_cl.widgets.{name}"
    for name in ("explore", "extract", "open_data", "preview", "runs", "train")
]


@pytest.fixture(scope="session", autouse=True)
def lean_windows() -> Iterator[None]:
    """What all windows have in common is done once, not in each test.

    That is to look for plugins, and to search what modules hold for garbage. Nor are napari's
    settings written: those of whoever runs the tests stay as they are.
    """
    get_settings()._save_on_change = False
    for module in (*IMPORTED, *WIDGETS):
        import_module(module)
    gc.collect()
    gc.freeze()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PluginManager, "discover", cache(PluginManager.discover))
        yield


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    """Search what a test leaves for garbage once, and not again in each that follows.

    napari's fixture does so three times a test. What windows leave for good, some thousand objects
    each, would take it ever longer: 0.4 s after thirty of them.
    """
    yield
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def quiet_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask nothing, and write runs that were given no folder where they are removed again."""
    monkeypatch.setattr("napari_synapse_cl.widgets.base.RUNS", tmp_path / "runs")
    monkeypatch.setattr("napari_synapse_cl.data.sample.storage.CACHE", tmp_path / "cache")
    monkeypatch.setattr("napari_synapse_cl.widgets.session.FILE", tmp_path / "settings.json")
    remembered = "napari_synapse_cl.widgets.open_data.sessions.FILE"
    monkeypatch.setattr(remembered, tmp_path / "recent.json")
    # Tests change few settings, and what they leave is as the command line has it.
    monkeypatch.setattr("napari_synapse_cl.widgets.session.FIRST_RECIPE", "specification")
    # The machine is measured in the tests of that alone.
    monkeypatch.setattr("napari_synapse_cl.widgets.train.summary.PROBE_DELAY_MS", 10**9)
    # Threads that wait for each other's cores make tiny networks slower, not faster.
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    get_settings().application.confirm_close_window = False


@pytest.fixture(autouse=True)
def quick_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the window starts are forks, which need no seconds to import PyTorch.

    Tests of how the window starts and leaves its processes put a fixture that does nothing in the
    place of this one.
    """
    monkeypatch.setattr(subprocess, "Popen", Fork)


@pytest.fixture
def notifications() -> Iterator[list[Notification]]:
    """What napari shows the person from now on."""
    shown: list[Notification] = []
    notification_manager.notification_ready.connect(shown.append)
    yield shown
    notification_manager.notification_ready.disconnect(shown.append)


@pytest.fixture
def sample_at_hand(sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let *Open Sample* draw a small sample."""
    from napari_synapse_cl.data.sample.storage import write_sample
    from napari_synapse_cl.widgets.open_data.sample import SampleJob

    def draw(self: SampleJob, file: Path, seed: int) -> Iterator[Any]:
        write_sample(file, sample)
        return iter(())

    monkeypatch.setattr(SampleJob, "_draw", draw)


@pytest.fixture
def window(make_napari_viewer: Callable[..., napari.Viewer], sample: Sample) -> Any:
    """A viewer with the sample's layers."""
    viewer = make_napari_viewer()
    image, points = (
        viewer.add_layer(Layer.create(*layer))
        for layer in sample_layers(sample.image, sample.synapses, sample.voxel_size)
    )
    assert isinstance(image, Image)
    assert isinstance(points, Points)
    return SimpleNamespace(viewer=viewer, image=image, points=points)


@pytest.fixture
def no_children() -> Iterator[None]:
    """No process is left when the test is over."""
    yield
    # One that was killed takes a moment to go.
    wait_for(lambda: not job_processes())


def job_processes() -> list[psutil.Process]:
    """The command lines that run below this process."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if is_job(process.cmdline(), process.pid):
                found.append(process)
        except psutil.Error:
            continue
    return found


def open_widget(viewer: napari.Viewer, name: str) -> Any:
    _, widget = viewer.window.add_plugin_dock_widget(PLUGIN, name)
    return widget


def fill_in(widget: Any, settings: dict[str, Any]) -> None:
    for name, value in settings.items():
        widget.form.editor(name).value = value


def click(qtbot: QtBot, button: QWidget) -> None:
    assert button.isEnabled()
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)


def train(qtbot: QtBot, widget: Any, output: Path, settings: dict[str, Any] = SMALL) -> None:
    """Start a training with a click and wait for its first step."""
    fill_in(widget, {**settings, "output": output})
    click(qtbot, widget.start_button)
    qtbot.waitUntil(lambda: n_steps(widget) > 0, timeout=LONG)


def wait_for_end(qtbot: QtBot, widget: Any) -> None:
    qtbot.waitUntil(widget.start_button.isEnabled, timeout=LONG)


def n_steps(widget: Any) -> int:
    return int(widget.view.monitor.series["loss"].n)


def press_in_dialog(text: str, before: Callable[[Any], object] | None = None) -> list[QDialog]:
    """Press a button of the next dialog, once it is there; return where that is noted.

    `before` is called with the dialog first.
    """
    pressed: list[QDialog] = []

    def look() -> None:
        dialog = QApplication.activeModalWidget()
        if not isinstance(dialog, QDialog):
            QTimer.singleShot(50, look)
            return
        if before is not None:
            before(dialog)
        buttons = {b.text().replace("&", ""): b for b in dialog.findChildren(QPushButton)}
        pressed.append(dialog)
        buttons[text].click()

    QTimer.singleShot(50, look)
    return pressed


def discard(qtbot: QtBot, widget: Any) -> None:
    """Discard a training, and wait for its end; what is asked is answered."""
    # From then on one is asked.
    qtbot.waitUntil(lambda: widget.view.last is not None, timeout=LONG)
    press_in_dialog("Discard the run")
    click(qtbot, widget.discard_button)
    wait_for_end(qtbot, widget)


def select_run(qtbot: QtBot, viewer: napari.Viewer, folder: Path) -> Any:
    """Open the table of runs, and select the one in a folder, wherever that is."""
    runs = open_dock(viewer, RUNS)
    with qtbot.waitSignal(runs.listed, timeout=LONG):
        runs.open_folder(folder)
    assert [run.folder for run in runs.table.selected] == [folder]
    return runs


@pytest.fixture
def choose(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Have the next file dialogs, which belong to the desktop, answered with a path."""

    def answer(path: Path) -> None:
        for name in ("getOpenFileName", "getSaveFileName"):
            monkeypatch.setattr(QFileDialog, name, lambda *_: (str(path), ""))
        monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: str(path))

    return answer


@contextmanager
def command_line(files: tuple[Path, Path], output: Path, settings: dict[str, Any]) -> Iterator[Any]:
    """A training that was started in a terminal; killed at the end if it still runs."""
    image, table = files
    values = {**settings, "image": image, "synapses": table, "output": output}
    flags = [part for name, value in values.items() for part in (f"--{name}", str(value))]
    command = [sys.executable, "-m", "napari_synapse_cl", *flags, "--train_only"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.kill()


def write_parts(output: Path, table: pd.DataFrame) -> Path:
    """Write a table in three parts, as an extraction in shards leaves it; return their folder."""
    folder = output / "features"
    folder.mkdir(parents=True)
    parts = pa.Table.from_pandas(table, preserve_index=False)
    for number, rows in enumerate(np.array_split(np.arange(len(table)), 3)):
        parquet.write_table(parts.take(rows), folder / f"part-{number:05d}.parquet")
    parquet.write_metadata(parts.schema, folder / "_common_metadata")
    return folder


def messages(notifications: list[Notification], severity: str) -> list[str]:
    return [n.message for n in notifications if str(n.severity) == severity]


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, sample: Sample) -> Path:
    """The checkpoint of a short training on the sample, made by the command line's code."""
    from napari_synapse_cl.config import Config
    from napari_synapse_cl.pipeline import run

    folder = tmp_path_factory.mktemp("trained")
    image, table = folder / "volume.npy", folder / "synapses.csv"
    np.save(image, sample.image)
    sample.synapses.to_csv(table, index=False)
    values = {**SMALL, "num_epochs": 1, "image": image, "synapses": table, "train_only": True}
    config = Config.from_values({**values, "output": folder / "run"})
    for _ in run(config):
        pass
    assert json.loads((folder / "run" / "config.json").read_text())["crop_size"] == [16, 16, 16]
    return folder / "run" / "checkpoints" / "last.pt"

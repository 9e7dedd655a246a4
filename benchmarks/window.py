"""How alive the window stays while it trains, and what the window costs the training.

    xvfb-run -s "-screen 0 1280x800x24" python benchmarks/window.py

It opens napari on the sample volume and drives "Train contrastive". A timer of 20 ms in the
window's thread measures how late it is: when nothing runs, from the click on Start to the first
step, while a training runs, while slices are scrolled too, and how soon Stop is answered.
Then trainings in the window and on the command line take turns, and their crops per second are
compared by their medians. Some five minutes on two cores.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import napari
import numpy as np
import psutil
from napari.layers import Layer
from napari.settings import get_settings
from qtpy.QtCore import QEventLoop, Qt, QTimer

from napari_synapse_cl.data.sample.volume import make_sample
from napari_synapse_cl.runs.metrics import read_metrics
from napari_synapse_cl.widgets import look as docks
from napari_synapse_cl.widgets import session as settings_store
from napari_synapse_cl.widgets.open_data.layers import sample_layers

INTERVAL_MS = 20
SETTINGS = {
    "crop_size": "32",
    "fmaps": 8,
    "batch_size": 8,
    "learning_rate": "1e-3",
    "device": "cpu",
    "num_epochs": 10_000,
}
WARM_UP_STEPS = 3


def spin(seconds: float) -> None:
    """Let the window live for so long."""
    loop = QEventLoop()
    QTimer.singleShot(round(1000 * seconds), loop.quit)
    loop.exec()


def spin_until(condition: Callable[[], bool], limit: float = 300) -> None:
    end = time.monotonic() + limit
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("the window did not get so far")
        spin(0.05)


@contextmanager
def lateness() -> Iterator[list[float]]:
    """Collect by how many milliseconds a timer in this thread comes late."""
    late: list[float] = []
    last = time.perf_counter()

    def tick() -> None:
        nonlocal last
        now = time.perf_counter()
        late.append(max(0.0, 1000 * (now - last) - INTERVAL_MS))
        last = now

    timer = QTimer()
    timer.setTimerType(Qt.TimerType.PreciseTimer)
    timer.setInterval(INTERVAL_MS)
    timer.timeout.connect(tick)
    timer.start()
    try:
        yield late
    finally:
        timer.stop()


def summary(late: list[float]) -> dict[str, float]:
    p50, p95 = np.percentile(late, [50, 95])
    return {"p50": float(p50), "p95": float(p95), "max": max(late)}


def scroll(viewer: napari.Viewer, seconds: float) -> None:
    """Step through the slices as fast as a person scrolls."""
    end = time.monotonic() + seconds
    n = viewer.dims.nsteps[0]
    position = 0
    while time.monotonic() < end:
        position = (position + 1) % n
        viewer.dims.set_current_step(0, position)
        spin(0.05)


def start(widget: Any, folder: Path) -> None:
    widget.form.editor("output").value = folder
    widget.start_button.click()


def crops_per_second(folder: Path, n_steps: int) -> float:
    rates = read_metrics(folder / "steps.csv")["crops_per_second"]
    return float(median(rates[WARM_UP_STEPS:n_steps]))


def on_command_line(folder: Path, files: list[str], n_steps: int) -> float:
    flags = [f"--{name}={value}" for name, value in SETTINGS.items()]
    command = [sys.executable, "-m", "napari_synapse_cl", *files, *flags, "--train_only"]
    command += ["--events", "jsonl", "--output", str(folder)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8"
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for line in process.stdout:
            event = json.loads(line)
            if event["event"] == "StepDone" and event["step"] == n_steps:
                process.stdin.write("stop\n")
                process.stdin.flush()
    return crops_per_second(folder, n_steps)


def in_window(widget: Any, folder: Path, n_steps: int) -> float:
    start(widget, folder)
    spin_until(lambda: widget.view.step >= n_steps)
    widget.stop_button.click()
    spin_until(lambda: widget.job is None)
    return crops_per_second(folder, n_steps)


def measure_window(
    viewer: napari.Viewer, widget: Any, folder: Path, seconds: float
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    with lateness() as late:
        spin(seconds / 2)
    found["nothing runs"] = summary(late)
    with lateness() as late:
        scroll(viewer, seconds / 2)
    found["nothing runs, slices scrolled"] = summary(late)
    with lateness() as late:
        start(widget, folder / "measured")
        spin_until(lambda: widget.view.step > 0)
    found["from Start to the first step"] = summary(late)
    own = psutil.Process()
    before, clock = sum(own.cpu_times()[:2]), time.monotonic()
    with lateness() as late:
        spin(seconds)
    found["training"] = summary(late)
    busy = (sum(own.cpu_times()[:2]) - before) / (time.monotonic() - clock)
    found["cores that the window keeps busy while training"] = busy
    with lateness() as late:
        scroll(viewer, seconds)
    found["training, slices scrolled"] = summary(late)
    clicked = time.perf_counter()
    widget.stop_button.click()
    assert "Ending" in widget.status.text()
    spin(0)
    found["Stop is answered after ms"] = 1000 * (time.perf_counter() - clicked)
    spin_until(lambda: widget.job is None)
    found["a stopped training has ended after ms"] = 1000 * (time.perf_counter() - clicked)
    return found


def compare(
    widget: Any, folder: Path, files: list[str], repeats: int, n_steps: int
) -> dict[str, Any]:
    window, terminal = [], []
    for i in range(repeats):
        terminal.append(on_command_line(folder / f"terminal {i}", files, n_steps))
        window.append(in_window(widget, folder / f"window {i}", n_steps))
    return {
        "crops/s in the window": window,
        "crops/s on the command line": terminal,
        "ratio of the medians": median(window) / median(terminal),
    }


def show(found: dict[str, Any]) -> None:
    print("Lateness of a 20 ms timer in the window's thread, ms | p50 | p95 | max")
    for name, value in found.items():
        if isinstance(value, dict):
            print(f"{name} | {value['p50']:.1f} | {value['p95']:.1f} | {value['max']:.1f}")
    for name, value in found.items():
        if isinstance(value, list):
            print(f"{name}: {', '.join(f'{number:.2f}' for number in value)}")
        elif not isinstance(value, dict):
            print(f"{name}: {value:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--seconds", type=float, default=20, help="length of a measurement")
    parser.add_argument("--repeats", type=int, default=3, help="trainings to compare, of each kind")
    parser.add_argument("--steps", type=int, default=20, help="steps of such a training")
    parser.add_argument("--json", type=Path, default=None, help="file for the figures")
    options = parser.parse_args()
    get_settings().application.confirm_close_window = False
    sample = make_sample()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # The person's own settings stay as they are.
        settings_store.FILE = folder / "settings.json"
        settings_store.FIRST_RECIPE = "specification"
        np.save(folder / "volume.npy", sample.image)
        sample.synapses.to_csv(folder / "synapses.csv", index=False)
        files = [f"--image={folder / 'volume.npy'}", f"--synapses={folder / 'synapses.csv'}"]
        files += ["--voxel_size", *map(str, sample.voxel_size)]
        viewer = napari.Viewer()
        viewer.window.resize(1280, 800)
        for layer in sample_layers(sample.image, sample.synapses, sample.voxel_size):
            viewer.add_layer(Layer.create(*layer))
        widget = docks.open_dock(viewer, docks.TRAIN)
        for setting, value in SETTINGS.items():
            widget.form.editor(setting).value = value
        # The machine is measured for the summary first.
        spin_until(lambda: "GiB free" in widget.summary.text())
        found = measure_window(viewer, widget, folder, options.seconds)
        if options.repeats:
            found |= compare(widget, folder, files, options.repeats, options.steps)
        viewer.close()
    show(found)
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""What is said of a training while it runs: whether it learns, and what is wrong with it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.layers import Image
from napari.utils import progress
from pytestqt.qtbot import QtBot
from qtpy.QtCore import QEvent, QObject
from qtpy.QtWidgets import QScrollArea

from napari_synapse_cl.runs.events import EpochDone, Finished, Message, Started, StepDone
from napari_synapse_cl.runs.following import MetricsRead
from napari_synapse_cl.runs.health import HealthCheck
from napari_synapse_cl.widgets.train.progress import UNKNOWN

from .conftest import TRAIN, open_widget


@pytest.fixture
def view(window: Any) -> Any:
    return open_widget(window.viewer, TRAIN).view


def started(folder: Path, n_validation: int = 16, total: int = 1000) -> Started:
    return Started(
        run=str(folder),
        device="cpu",
        precision="float32",
        n_training=100,
        n_validation=n_validation,
        batch_size=10,
        steps_per_epoch=10,
        total_steps=total,
        step=0,
        chance_loss=3.0,
    )


def epoch(n: int, found: float, loss: float = 1.0, *, best: bool = False) -> EpochDone:
    return EpochDone(
        epoch=n, step=10 * n, training_loss=loss, validation_loss=loss, best=best, retrieval=found
    )


def test_it_says_whether_it_learns_and_which_network_is_offered(view: Any, tmp_path: Path) -> None:
    assert view.verdict.text() == UNKNOWN
    view.take(started(tmp_path))
    view.take(epoch(1, 5 / 16, 2.5, best=True))
    assert "finds 5 of 16 held-out synapses again, by chance 1" in view.verdict.text()
    view.take(epoch(2, 10 / 16, 1.234, best=True))
    assert view.verdict.text().startswith("It learns: it finds 10 of 16")
    assert "does not show that classes come apart" in view.verdict.text()
    view.take(epoch(3, 9 / 16, 1.5))
    view.take(Finished("completed", 30, str(tmp_path / "checkpoints" / "last.pt")))
    assert view.verdict.text().endswith(
        "The best was epoch 2 (validation loss 1.23): its network is offered."
    )
    # Another training is another matter.
    view.begin()
    assert view.verdict.text() == UNKNOWN
    assert view.monitor.series["retrieval"].n == 0


def test_each_step_that_is_told_has_the_window_composed_once(
    window: Any, qtbot: QtBot, tmp_path: Path
) -> None:
    main_window = window.viewer.window._qt_window
    main_window.resize(1280, 800)
    main_window.show()
    widget = open_widget(window.viewer, TRAIN)
    widget.tabs.setCurrentWidget(widget.view)
    qtbot.waitUntil(lambda: "monitor" in vars(widget.view), timeout=30_000)
    # As a job would have.
    widget._progress = progress(total=0, desc="Training")
    widget.on_event(started(tmp_path))
    qtbot.wait(1500)
    composed: list[int] = []

    class Counter(QObject):
        def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802 - Qt's name
            if event.type() == QEvent.Type.UpdateRequest:
                composed.append(step)
            return False

    counter = Counter()
    main_window.installEventFilter(counter)
    for step in range(1, 5):
        loss = 3 - 0.1 * step
        widget.on_event(StepDone(1, step, loss, 1e-3, crops_per_second=10, memory_gib=1))
        qtbot.wait(1500)
        assert f"step {step} of" in widget.status.text()
        assert widget.view.monitor.losses.drawn(widget.view.monitor.losses.curves[0])[0][-1] == step
    main_window.removeEventFilter(counter)
    widget._progress.close()
    # The first may find a text as long as none before.
    assert [composed.count(step) for step in range(2, 5)] == [1, 1, 1]


def test_the_best_of_a_run_that_is_attached_to_is_that_of_its_own_metric(
    view: Any, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text('{"best_metric": "retrieval"}')
    view.begin(attached=True)
    view.take(started(tmp_path))
    epochs = {
        "epoch": np.array([1.0, 2, 3]),
        "step": np.array([10.0, 20, 30]),
        "training_loss": np.array([3.0, 2, 1]),
        "validation_loss": np.array([3.0, 2, 1]),
        "retrieval": np.array([0.25, 0.75, 0.5]),
    }
    steps = {
        "epoch": np.array([1.0, 1]),
        "step": np.array([1.0, 2]),
        "loss": np.array([3.0, 3]),
        "learning_rate": np.array([0.1, 0.1]),
        "crops_per_second": np.array([20.0, 5]),
        "memory_gib": np.array([1.0, 1]),
    }
    view.take(MetricsRead(steps, epochs))
    view.take(Finished("completed", 30, str(tmp_path / "checkpoints" / "last.pt")))
    assert "The best was epoch 2 (retrieval 0.75)" in view.verdict.text()
    # Two steps of ten crops.
    assert view.seconds == pytest.approx(10 / 20 + 10 / 5)


def test_a_warning_goes_when_what_it_says_holds_no_longer(view: Any, tmp_path: Path) -> None:
    check = HealthCheck()
    events: list[Any] = [started(tmp_path, total=100)]
    events += [epoch(n, 0.0, loss=3.0) for n in range(1, 11)]
    told: list[Message] = []
    for event in events:
        view.take(event)
        for message in check.take(event):
            told.append(message)
            view.take(message)
    assert any("stuck" in message.text for message in told)
    assert "stuck" in view.warning.text()
    assert view.warning.isVisibleTo(view)
    view.take(epoch(11, 0.5, loss=1.0))
    assert not view.warning.isVisibleTo(view)


def test_another_warning_stays(view: Any, tmp_path: Path) -> None:
    view.take(Message("the batch size is lowered", "warning"))
    view.take(started(tmp_path))
    for n in range(1, 12):
        view.take(epoch(n, 0.5, loss=1.0))
    view.take(StepDone(12, 111, 1.0, 0.1, 10.0, 1.0))
    assert "The batch size is lowered." in view.warning.text()


@pytest.mark.parametrize("size", [(1280, 800), (1024, 700)])
def test_with_a_warning_the_plots_shrink_or_scroll_and_are_not_clipped(
    size: tuple[int, int], make_napari_viewer: Any, qtbot: QtBot, tmp_path: Path
) -> None:
    viewer = make_napari_viewer(show=True)
    viewer.add_layer(Image(np.zeros((20, 20, 20), np.uint8)))
    main = viewer.window._qt_window
    main.resize(*size)
    widget = open_widget(viewer, TRAIN)
    widget.tabs.setCurrentWidget(widget.view)
    view = widget.view
    view.take(started(tmp_path))
    view.take(epoch(1, 0.5))
    qtbot.waitUntil(view.monitor.isVisible)
    qtbot.wait(200)
    before = widget.start_button.mapTo(main, widget.start_button.rect().topLeft())
    view.take(Message("The training is stuck " * 12, "warning"))
    widget.status.setText("A long line that wraps. " * 10)
    qtbot.wait(200)
    page = view.monitor.parentWidget()
    area = page.parentWidget().parentWidget()
    assert isinstance(area, QScrollArea)
    for plot in (view.monitor.losses, view.monitor.retrieval):
        # Whole on its page, of which all can be scrolled to.
        assert plot.height() >= plot.minimumSizeHint().height()
        bottom = plot.mapTo(page, plot.rect().bottomLeft()).y()
        assert bottom <= page.height()
    assert page.height() <= area.height() + area.verticalScrollBar().maximum() + 2
    # The buttons stand where they were, in sight.
    after = widget.start_button.mapTo(main, widget.start_button.rect().topLeft())
    assert after == before
    assert main.size().width() <= size[0]
    assert main.size().height() <= size[1]
    assert after.y() + widget.start_button.height() < main.height()

"""Crops are read while the step before computes, and nothing but time depends on it."""

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from conftest import SMALL
from napari_synapse_cl.config import Config
from napari_synapse_cl.data.crops.sources import CropSource
from napari_synapse_cl.data.parts import Positions
from napari_synapse_cl.data.split import Split
from napari_synapse_cl.errors import InputError, JobError
from napari_synapse_cl.models.architecture import Architecture
from napari_synapse_cl.models.checkpoints import load_checkpoint
from napari_synapse_cl.models.vgg3d import ContrastiveModel
from napari_synapse_cl.runs.events import EpochDone, Started, StepDone
from napari_synapse_cl.runs.folder import RunFolder
from napari_synapse_cl.training.memory.plan import StepMemory, StepPlan
from napari_synapse_cl.training.trainer import Trainer
from napari_synapse_cl.training.views import Prefetching

NAME = "prefetching"
N = 12
SECONDS = 30
"""No test waits so long unless it fails."""


class Crops(CropSource):
    """Random crops that note who read which of them, and fail where they are told to."""

    shape = (16, 16, 16)
    positions = Positions(np.zeros((N, 3), int), np.arange(N), 0)

    def __init__(self) -> None:
        self.read_by: list[tuple[bool, list[int]]] = []
        self.error: Exception | None = None
        self.fails_after = 0
        self._reading = threading.Lock()

    def read_usable(self, synapses: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        assert self._reading.acquire(blocking=False), "two threads read at a time"
        is_ahead = threading.current_thread().name.startswith(NAME)
        self.read_by.append((is_ahead, list(synapses)))
        try:
            if self.error is not None and len(self.read_by) > self.fails_after:
                raise self.error
            crops = [np.random.default_rng(s).random((1, *self.shape), "f4") for s in synapses]
            return np.stack(crops), np.asarray(synapses)
        finally:
            self._reading.release()

    def states(self) -> None:
        """Nothing is known of them."""

    def problem(self, synapse: int) -> str:
        return f"crop {synapse} is constant"


@pytest.fixture
def crops() -> Crops:
    return Crops()


@pytest.fixture
def make_trainer(tmp_path: Path, crops: Crops) -> Callable[..., Trainer]:
    def make(folder: str = "run", **settings: Any) -> Trainer:
        values = {"rotation_range": 0, "flip_prob": 0, **SMALL, **settings}
        config = Config.from_values(values)
        run = RunFolder(tmp_path / folder)
        run.create(config)
        return Trainer(
            ContrastiveModel.from_seed(Architecture.from_config(config), config, 0),
            crops,
            Split(np.arange(8), np.arange(8, N), np.arange(0)),
            config,
            device=torch.device("cpu"),
            plan=StepPlan("float32", False, config.micro_batch_size or config.batch_size),
            voxel_size=(1.0, 1.0, 1.0),
            folder=run,
        )

    return make


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert not [t.name for t in threading.enumerate() if t.name.startswith(NAME)]


def without_prefetching(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Prefetching, "expect", lambda self, coming: None)


def figures(trainer: Trainer) -> list[float]:
    events = list(trainer.run())
    return [e.loss for e in events if isinstance(e, StepDone)] + [
        e.validation_loss for e in events if isinstance(e, EpochDone) and e.validation_loss
    ]


class TestPrefetching:
    def test_the_next_crops_are_read_while_the_caller_computes(self) -> None:
        begun, computed = threading.Event(), threading.Event()

        def read(synapses: np.ndarray) -> Tensor:
            if synapses[0] == 1:
                begun.set()
                assert computed.wait(SECONDS)
            return torch.from_numpy(synapses)

        prefetching = Prefetching(read)
        with prefetching.following(iter([np.array([0]), np.array([1])])):
            assert prefetching.read(np.array([0])).tolist() == [0]
            # The second one is being read, and waits for what happens here.
            assert begun.wait(SECONDS)
            computed.set()
            assert prefetching.read(np.array([1])).tolist() == [1]

    def test_no_more_than_one_read_is_ahead(self) -> None:
        asked: list[int] = []

        def coming() -> Iterator[np.ndarray]:
            for i in range(4):
                asked.append(i)
                yield np.array([i])

        prefetching = Prefetching(torch.from_numpy)
        with prefetching.following(coming()):
            for i in range(3):
                assert asked == list(range(i + 1))
                prefetching.read(np.array([i]))

    def test_what_comes_between_is_read_without_the_thread_and_forgets_nothing(self) -> None:
        read: list[tuple[str, int]] = []

        def note(synapses: np.ndarray) -> Tensor:
            read.append((threading.current_thread().name[: len(NAME)], int(synapses[0])))
            return torch.from_numpy(synapses)

        prefetching = Prefetching(note)
        with prefetching.following(iter([np.array([0])])):
            assert prefetching.read(np.array([7])).tolist() == [7]
            assert prefetching.read(np.array([0])).tolist() == [0]
        assert read == [(NAME, 0), (threading.current_thread().name[: len(NAME)], 7)]

    def test_outside_the_context_nothing_is_read_ahead(self) -> None:
        prefetching = Prefetching(torch.from_numpy)
        with prefetching.following(iter([np.array([0])])):
            pass
        assert prefetching.read(np.array([0])).tolist() == [0]

    def test_an_error_is_raised_where_its_crops_are_asked_for(self) -> None:
        def read(synapses: np.ndarray) -> Tensor:
            if synapses[0] == 1:
                raise JobError("the server may be down")
            return torch.from_numpy(synapses)

        prefetching = Prefetching(read)
        with prefetching.following(iter([np.array([0]), np.array([1])])):
            prefetching.read(np.array([0]))
            with pytest.raises(JobError, match="the server may be down"):
                prefetching.read(np.array([1]))


@pytest.mark.parametrize("micro_batch_size", [4, 2, 1])
def test_losses_are_the_same_to_the_last_bit(
    micro_batch_size: int, make_trainer: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead = figures(make_trainer(micro_batch_size=micro_batch_size))
    without_prefetching(monkeypatch)
    assert ahead == figures(make_trainer("other", micro_batch_size=micro_batch_size))


@pytest.mark.parametrize(
    ("settings", "n_reads"),
    [({}, 4), ({"micro_batch_size": 2}, 16), ({"micro_batch_size": 2, "freeze_backbone": True}, 8)],
    ids=["whole batches", "parts, each of them twice", "parts of a frozen network, once"],
)
def test_all_that_is_trained_on_is_read_ahead(
    settings: dict[str, Any], n_reads: int, make_trainer: Callable[..., Trainer], crops: Crops
) -> None:
    list(make_trainer(**settings).run())
    trained = [ahead for ahead, synapses in crops.read_by if max(synapses) < 8]
    # 2 epochs of 2 steps.
    assert trained == [True] * n_reads


def test_a_training_that_goes_on_reads_ahead_and_takes_the_same_steps(
    make_trainer: Callable[..., Trainer], crops: Crops
) -> None:
    whole = make_trainer()
    losses = [event.loss for event in whole.run() if isinstance(event, StepDone)]
    first = make_trainer("halves")
    for event in first.run():
        if isinstance(event, StepDone):
            first.stop()
    crops.read_by.clear()
    second = make_trainer("halves")
    second.restore(load_checkpoint(first.folder.last_checkpoint))
    rest = [event.loss for event in second.run() if isinstance(event, StepDone)]
    assert rest == losses[1:]
    assert [ahead for ahead, synapses in crops.read_by if max(synapses) < 8] == [True] * 3


@pytest.mark.parametrize("kind", [InputError, JobError])
def test_a_step_whose_crops_cannot_be_read_says_why_and_those_before_are_taken(
    kind: type[Exception], make_trainer: Callable[..., Trainer], crops: Crops
) -> None:
    crops.error, crops.fails_after = kind("crop 3 is constant"), 1
    events = make_trainer().run()
    assert [type(next(events)) for _ in range(2)] == [Started, StepDone]
    with pytest.raises(kind, match=r"^crop 3 is constant$"):
        next(events)


@pytest.mark.parametrize("way", ["stop", "close"])
def test_the_thread_ends_with_a_training_that_is_broken_off(
    way: str, make_trainer: Callable[..., Trainer]
) -> None:
    trainer = make_trainer()
    events = trainer.run()
    for event in events:
        if isinstance(event, StepDone):
            assert any(t.name.startswith(NAME) for t in threading.enumerate())
            if way == "close":
                events.close()  # type: ignore[attr-defined]
                break
            trainer.stop()
    assert trainer.folder.last_checkpoint.exists()


def test_after_a_shortage_of_memory_the_smaller_parts_are_read_ahead(
    make_trainer: Callable[..., Trainer], crops: Crops, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make_trainer(num_epochs=1)
    expected = figures(make_trainer("other", num_epochs=1, micro_batch_size=2))
    crops.read_by.clear()
    backward, batches = trainer._batch.backward, []

    def short_once(synapses: np.ndarray, epoch: int, shown: np.ndarray) -> Any:
        batches.append(synapses)
        if len(batches) == 1:
            raise MemoryError
        return backward(synapses, epoch, shown)

    trainer._batch.backward = short_once  # type: ignore[method-assign]
    monkeypatch.setattr(StepMemory, "smaller", lambda *_: StepPlan("float32", False, 2))
    assert figures(trainer) == expected
    trained = [(ahead, len(some)) for ahead, some in crops.read_by if max(some) < 8]
    # What was read for the step that failed is forgotten.
    assert trained == [(True, 4), *[(True, 2)] * 8]

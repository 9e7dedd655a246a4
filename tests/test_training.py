"""Training as an iterator of events: what it trains, what it keeps, and that it goes on exactly."""

from collections.abc import Callable
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from torch import nn

from conftest import SMALL, positions_inside
from napari_synapse_cl.augmentations.transforms import context_shape
from napari_synapse_cl.config import Config
from napari_synapse_cl.data.crops.sources import StreamedCrops
from napari_synapse_cl.data.parts import Part
from napari_synapse_cl.data.sample.volume import Sample
from napari_synapse_cl.data.split import Split, split_by_space
from napari_synapse_cl.data.volumes import Volume
from napari_synapse_cl.errors import InputError, JobError
from napari_synapse_cl.features.embeddings import feature_rank, measure
from napari_synapse_cl.models.architecture import Architecture
from napari_synapse_cl.models.checkpoints import load_checkpoint
from napari_synapse_cl.models.losses import nt_xent
from napari_synapse_cl.models.vgg3d import ContrastiveModel
from napari_synapse_cl.runs.events import (
    CheckpointSaved,
    EpochDone,
    Event,
    Finished,
    Message,
    Started,
    StepDone,
)
from napari_synapse_cl.runs.folder import RunFolder
from napari_synapse_cl.runs.held_out import HeldOut
from napari_synapse_cl.runs.metrics import read_metrics
from napari_synapse_cl.training import step as training_step
from napari_synapse_cl.training.memory.plan import StepMemory, StepPlan
from napari_synapse_cl.training.objectives import KINDS, of_pairs
from napari_synapse_cl.training.schedule import (
    MOST_SHUFFLED,
    Order,
    Schedule,
    Selection,
    learning_rate,
    stages_waiting,
)
from napari_synapse_cl.training.shuffling import Shuffle
from napari_synapse_cl.training.trainer import Trainer
from napari_synapse_cl.training.validation import Labelled, Validation

CUBES = (1.0, 1.0, 1.0)
ONE_VOXEL = (1, 1, 1)
MakeTrainer = Callable[..., Trainer]
LEARNING = {
    "num_epochs": 20,
    "batch_size": 10,
    "fmaps": 4,
    "learning_rate": 5e-3,
    "temperature": 0.5,
    "rotation_range": 5,
    "flip_prob": 0,
    "brightness_range": 0.02,
}
"""Settings with which something is learnt in seconds."""


@pytest.fixture
def make_trainer(sample: Sample, tmp_path: Path) -> MakeTrainer:
    def make(
        folder: str = "run", labels: Any = None, memory: StepMemory | None = None, **settings: Any
    ) -> Trainer:
        config = Config.from_values({**SMALL, **settings})
        volume = Volume(sample.image)
        positions = positions_inside(sample.synapses, volume.shape)
        run = RunFolder(tmp_path / folder)
        run.create(config)
        split = split_by_space(positions, config.validation_fraction, [CUBES], [ONE_VOXEL])
        return Trainer(
            ContrastiveModel.from_seed(Architecture.from_config(config), config, config.seed),
            StreamedCrops(
                [Part(volume)], positions, config, context_shape(config.crop_size, config)
            ),
            split,
            config,
            device=torch.device("cpu"),
            plan=StepPlan(
                "float32",
                config.activation_checkpointing == "on",
                config.micro_batch_size or config.batch_size,
            ),
            memory=memory,
            voxel_size=CUBES,
            folder=run,
            labelled=None if labels is None else Labelled.of(labels, split),
        )

    return make


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: t.clone() for name, t in trainer.model.state_dict().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def of_kind(kind: type, events: list[Event]) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def test_a_training_tells_all_that_happens_in_order(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(num_epochs=2, batch_size=4)
    events = list(trainer.run())
    # 12 synapses: 2 validate, 10 train in 2 full batches of 4 an epoch.
    epoch = [StepDone, StepDone, EpochDone, CheckpointSaved]
    assert [type(event) for event in events] == [Started, *epoch, *epoch, Finished]
    assert events[0] == Started(
        run=str(trainer.folder.path),
        device="cpu",
        precision="float32",
        n_training=10,
        n_validation=2,
        batch_size=4,
        steps_per_epoch=2,
        total_steps=4,
        step=0,
        chance_loss=pytest.approx(np.log(7)),
    )
    assert [event.step for event in of_kind(StepDone, events)] == [1, 2, 3, 4]
    assert events[-1].outcome == "completed"
    losses = of_kind(StepDone, events)
    assert of_kind(EpochDone, events)[0].training_loss == pytest.approx(
        (losses[0].loss + losses[1].loss) / 2
    )


def test_every_epoch_takes_each_synapse_at_most_once_in_another_order(
    make_trainer: MakeTrainer,
) -> None:
    trainer = make_trainer(num_epochs=3)
    read: list[list[int]] = []
    crops = trainer._batch._make_views.__self__._crops  # type: ignore[attr-defined]
    inner = crops.read

    def spy(synapses: Any) -> np.ndarray:
        read.append(list(synapses))
        return inner(synapses)

    crops.read = spy
    list(trainer.run())
    training = [batch for batch in read if set(batch) <= set(trainer.split.training)]
    epochs = [training[i] + training[i + 1] for i in range(0, 6, 2)]
    assert all(len(set(epoch)) == 8 for epoch in epochs)
    assert all(a != b for a, b in pairwise(epochs))


def test_the_order_of_the_synapses_is_drawn_once_an_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[list[int]] = []
    draw = np.random.default_rng

    def spy(seed: Any) -> np.random.Generator:
        drawn.append(seed)
        return draw(seed)

    synapses = np.arange(20, 29)
    order = Order(7, synapses, Schedule(batch_size=2, steps_per_epoch=4, total_steps=8))
    with monkeypatch.context() as patched:
        patched.setattr(np.random, "default_rng", spy)
        steps = [order.of_step(step) for step in range(8)]
    assert drawn == [[7, 1], [7, 2]]
    for epoch in (1, 2):
        expected = draw([7, epoch]).permutation(synapses)[:8]
        taken = np.concatenate([some for number, some in steps if number == epoch])
        assert taken.tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("settings", "n_training", "expected"),
    [
        ({"num_epochs": 3}, 100, (8, 12, 36)),
        ({"num_epochs": 3, "epoch_steps": 5}, 100, (8, 5, 15)),
        ({"num_epochs": 3, "epoch_steps": 50}, 100, (8, 12, 36)),
        ({"num_steps": 100}, 100, (8, 12, 108)),
        ({"num_steps": 100, "epoch_steps": 5}, 100, (8, 5, 100)),
        ({"num_steps": 100, "epoch_steps": 5}, 100_000, (8, 5, 100)),
        ({"num_steps": 100, "epoch_steps": 5}, 6, (6, 1, 100)),
    ],
)
def test_steps_may_be_bounded_and_epochs_follow_from_them(
    settings: dict[str, int], n_training: int, expected: tuple[int, int, int]
) -> None:
    schedule = Schedule.plan(Config(batch_size=8, **settings), n_training)
    assert (schedule.batch_size, schedule.steps_per_epoch, schedule.total_steps) == expected
    assert schedule.epochs * schedule.steps_per_epoch == schedule.total_steps


@pytest.mark.parametrize("most", [MOST_SHUFFLED, 50])
def test_short_epochs_draw_others_each_time(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_synapse_cl.training.schedule.MOST_SHUFFLED", most)
    schedule = Schedule.plan(Config(batch_size=8, epoch_steps=2, num_epochs=40), 100)
    if most < 100:
        # Of very many nothing is drawn that is not taken.
        monkeypatch.setattr(Order, "_draw", lambda *_: pytest.fail("all are shuffled"))
    order = Order(0, np.arange(100), schedule)
    epochs = [np.concatenate([order.of_step(2 * e + s)[1] for s in range(2)]) for e in range(40)]
    assert all(len(set(epoch)) == 16 for epoch in epochs)
    assert len(set(np.concatenate(epochs))) == 100


@pytest.mark.parametrize("n", [1, 2, 3, 64, 65, 1000, 4097])
def test_a_shuffled_order_holds_each_number_once_and_another_seed_another_order(n: int) -> None:
    places = np.arange(n)
    some, others = Shuffle(n, [0, 1])[places], Shuffle(n, [0, 2])[places]
    assert sorted(some.tolist()) == sorted(others.tolist()) == places.tolist()
    if n >= 1000:
        # As of random orders: one in n stays, and one follows another by chance alone.
        assert (some == others).sum() < 10
        assert abs(np.corrcoef(some[:-1], some[1:])[0, 1]) < 0.1
        # It does not depend on what else is looked at.
        assert Shuffle(n, [0, 1])[places[-7:]].tolist() == some[-7:].tolist()


def test_training_lowers_the_loss(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(**LEARNING)
    losses = [event.training_loss for event in of_kind(EpochDone, list(trainer.run()))]
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])


def test_the_same_seed_gives_the_same_weights_to_the_bit_and_another_others(
    make_trainer: MakeTrainer,
) -> None:
    trainers = [make_trainer("a"), make_trainer("b"), make_trainer("c", seed=1)]
    for trainer in trainers:
        list(trainer.run())
    first, again, other = map(weights, trainers)
    assert same(first, again)
    assert not same(first, other)


@pytest.mark.parametrize("n_steps", [1, 2, 3])
def test_a_training_whose_consumer_left_goes_on_as_if_it_had_not(
    make_trainer: MakeTrainer, n_steps: int
) -> None:
    whole = make_trainer("whole")
    list(whole.run())
    assert same(weights(whole), weights(interrupted(make_trainer, n_steps)))


def test_stopping_before_the_first_step_keeps_nothing(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer()
    trainer.stop()
    assert [type(event) for event in trainer.run()] == [Started]
    assert not trainer.folder.last_checkpoint.exists()


def test_stopping_ends_after_the_step_and_keeps_it(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(num_epochs=50)
    events = []
    for event in trainer.run():
        events.append(event)
        if isinstance(event, StepDone) and event.step == 3:
            trainer.stop()
    assert of_kind(StepDone, events)[-1].step == 3
    assert isinstance(events[-2], CheckpointSaved)
    assert events[-1] == Finished("stopped", 3, str(trainer.folder.last_checkpoint))
    assert load_checkpoint(trainer.folder.last_checkpoint)["step"] == 3


def test_the_best_checkpoint_is_that_of_the_lowest_validation_loss(
    make_trainer: MakeTrainer,
) -> None:
    trainer = make_trainer(num_epochs=4)
    epochs = of_kind(EpochDone, list(trainer.run()))
    lowest = min(epochs, key=lambda event: event.validation_loss)
    earlier = float("inf")
    for event in epochs:
        assert event.best == (event.validation_loss < earlier)
        earlier = min(earlier, event.validation_loss)
    assert load_checkpoint(trainer.folder.best_checkpoint)["step"] == lowest.step


def test_without_validation_the_training_loss_decides(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(validation_fraction=0)
    epochs = of_kind(EpochDone, list(trainer.run()))
    assert all(event.validation_loss is None for event in epochs)
    assert all(event.retrieval is None for event in epochs)
    assert trainer.folder.best_checkpoint.exists()


def test_the_monitors_are_those_of_the_embeddings_that_the_loss_is_taken_of(
    make_trainer: MakeTrainer,
) -> None:
    trainer = make_trainer(validation_fraction=0.4, batch_size=2)
    epoch = of_kind(EpochDone, list(trainer.run()))[-1]
    assert len(trainer.split.validation) == 5
    trainer.model.eval()
    # Each half validates in a batch of its own, and all are compared with all.
    parts = [trainer._batch.embed(part, 0) for part in np.array_split(trainer.split.validation, 2)]
    with torch.inference_mode():
        pairs = [of_pairs(trainer.model.head, part.pooled) for part in parts]
    z1, z2 = torch.cat(pairs).unbind(dim=1)
    found = {name: getattr(epoch, name) for name in asdict(measure(z1, z2))}
    assert found == asdict(measure(z1, z2))
    losses = [nt_xent(*z.unbind(1), temperature=0.07).item() * len(z) for z in pairs]
    assert epoch.validation_loss == sum(losses) / 5


def test_the_rank_of_features_is_that_of_crops_as_they_are(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(validation_fraction=0.4, brightness_range=0.5)
    epoch = of_kind(EpochDone, list(trainer.run()))[-1]
    trainer.model.eval()
    held_out = trainer.split.validation
    with torch.inference_mode():
        plain = trainer._batch.pool(held_out, trainer._views.plain)
        views = trainer._batch.embed(held_out, 0).pooled[:, 0]
    assert epoch.feature_rank == pytest.approx(feature_rank(plain))
    written = HeldOut.read(trainer.folder.held_out_file)
    assert written is not None
    np.testing.assert_array_equal(written.synapses, held_out)
    np.testing.assert_array_equal(written.features, plain.numpy())
    assert epoch.feature_rank != pytest.approx(feature_rank(views), rel=1e-3)


def test_each_step_tells_the_memory_in_use(make_trainer: MakeTrainer) -> None:
    for event in make_trainer().run():
        if isinstance(event, StepDone):
            own = psutil.Process().memory_info().rss / 2**30
            assert event.memory_gib == pytest.approx(own, rel=0.3)


class TestFreezing:
    def changed(self, trainer: Trainer) -> set[str]:
        before = weights(trainer)
        list(trainer.run())
        after = weights(trainer)
        return {name for name in before if not torch.equal(before[name], after[name])}

    def test_all_stages_train_by_default(self, make_trainer: MakeTrainer) -> None:
        trainer = make_trainer()
        assert self.changed(trainer) >= {
            name for name, p in trainer.model.named_parameters() if p.ndim > 1
        }

    def test_a_frozen_backbone_keeps_weights_and_statistics(
        self, make_trainer: MakeTrainer
    ) -> None:
        changed = self.changed(make_trainer(freeze_backbone=True))
        assert changed
        assert all(name.startswith("head.") for name in changed)

    @pytest.mark.parametrize(("stage", "first", "last"), [(1, 0, 12), (3, 20, 26), (4, 27, 33)])
    def test_one_stage_alone_trains_with_its_statistics(
        self, make_trainer: MakeTrainer, stage: int, first: int, last: int
    ) -> None:
        changed = self.changed(make_trainer(stage_to_finetune=stage))
        indices = {int(n.split(".")[2]) for n in changed if n.startswith("backbone.")}
        assert indices == {
            i for i in range(first, last) if Architecture().layers[i].name.split()[2] != "ReLU"
        }
        assert any("running_mean" in name for name in changed)

    def test_a_stage_the_network_lacks_is_refused(self) -> None:
        config = Config.from_values({"stage_to_finetune": 3})
        architecture = Architecture((2, 4), (1, 1), ((2, 2, 2),) * 2)
        with pytest.raises(InputError, match="stages 1 to 2"):
            ContrastiveModel.from_seed(architecture, config, 0)


def groups_of(trainer: Trainer) -> list[dict[str, Any]]:
    return trainer._optimization.optimizer.param_groups


@pytest.mark.parametrize("objective", ["nt_xent", "byol"])
def test_biases_and_batch_norms_do_not_decay(make_trainer: MakeTrainer, objective: str) -> None:
    trainer = make_trainer(weight_decay=0.5, objective=objective)
    decayed = [p for g in groups_of(trainer) if g["weight_decay"] for p in g["params"]]
    assert {g["weight_decay"] for g in groups_of(trainer)} == {0.5, 0}
    assert all(p.ndim > 1 for p in decayed)
    modules = [
        *trainer.model.modules(),
        *getattr(trainer.objective, "predictor", nn.ReLU()).modules(),
    ]
    assert len(decayed) == sum(isinstance(m, nn.Conv3d | nn.Linear) for m in modules)


def test_the_backbone_learns_at_a_rate_of_its_own(make_trainer: MakeTrainer) -> None:
    still = make_trainer("still", backbone_lr_factor=0)
    before = weights(still)
    events = list(still.run())
    after = weights(still)
    changed = {
        name for name, p in still.model.named_parameters() if (before[name] != after[name]).any()
    }
    assert changed
    assert all(name.startswith("head.") for name in changed)
    slow = make_trainer("slow", backbone_lr_factor=0.1)
    step = next(event for event in slow.run() if isinstance(event, StepDone))
    assert {g["lr"] for g in groups_of(slow)} == {step.learning_rate, 0.1 * step.learning_rate}
    assert of_kind(StepDone, events)[0].learning_rate == step.learning_rate


def test_gradients_longer_than_the_limit_are_shortened_to_it(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    norms: dict[float, list[float]] = {}
    for limit in (0.0, 0.01):
        trainer = make_trainer(str(limit), clip_norm=limit)
        optimizer = trainer._optimization.optimizer
        inner = optimizer.step

        def note(limit: float = limit, optimizer: Any = optimizer, inner: Any = inner) -> None:
            grads = [p.grad for g in optimizer.param_groups for p in g["params"]]
            norms.setdefault(limit, []).append(
                float(torch.stack([g.norm() for g in grads if g is not None]).norm())
            )
            inner()

        monkeypatch.setattr(optimizer, "step", note)
        list(trainer.run())
    assert min(norms[0.0]) > 0.02
    assert norms[0.01] == pytest.approx([0.01] * len(norms[0.01]), rel=1e-3)


class TestGradualUnfreezing:
    def test_the_head_begins_and_stages_join_from_the_last_to_the_first(self) -> None:
        config = Config.from_values({"unfreezing_fraction": 0.4})
        waiting = [stages_waiting(step, 100, config, [1, 2, 3, 4]) for step in range(100)]
        assert waiting[0] == [1, 2, 3, 4]
        assert [waiting[step] for step in (9, 10, 20, 30, 39)] == [
            [1, 2, 3, 4],
            [1, 2, 3],
            [1, 2],
            [1],
            [1],
        ]
        assert all(not stages for stages in waiting[40:])

    def test_without_it_all_train_from_the_first_step(self) -> None:
        assert stages_waiting(0, 100, Config(), [1, 2]) == []

    @pytest.mark.parametrize("objective", ["nt_xent", "byol"])
    def test_a_stage_that_waits_keeps_weights_and_statistics(
        self, make_trainer: MakeTrainer, objective: str
    ) -> None:
        trainer = make_trainer(
            unfreezing_fraction=1.0, num_epochs=4, batch_size=5, objective=objective
        )
        trained: list[set[int]] = []
        before = weights(trainer)
        for event in trainer.run():
            if isinstance(event, StepDone):
                after = weights(trainer)
                changed = {
                    name
                    for name in before
                    if (before[name] != after[name]).any() and "head" not in name
                }
                layers = {int(name.split(".")[2]) for name in changed}
                trained.append({trainer.model.architecture.stage_of(layer) for layer in layers})
                before = after
        # 8 steps, 4 stages.
        assert trained == [set(), set(), {4}, {4}, {3, 4}, {3, 4}, {2, 3, 4}, {2, 3, 4}]

    def test_it_goes_on_where_it_was_interrupted(self, make_trainer: MakeTrainer) -> None:
        whole = make_trainer("whole", unfreezing_fraction=0.9)
        list(whole.run())
        assert same(weights(whole), weights(interrupted(make_trainer, 2, unfreezing_fraction=0.9)))


class TestObjectives:
    @pytest.mark.parametrize("objective", KINDS)
    def test_a_training_goes_on_to_the_bit(self, make_trainer: MakeTrainer, objective: str) -> None:
        settings = {"objective": objective, "queue_size": 12}
        whole = make_trainer("whole", **settings)
        events = list(whole.run())
        assert np.isfinite([event.validation_loss for event in of_kind(EpochDone, events)]).all()
        resumed = interrupted(make_trainer, 3, **settings)
        assert same(weights(whole), weights(resumed))
        assert same(whole.objective.state_dict(), resumed.objective.state_dict())

    @pytest.mark.parametrize("objective", ["dcl", "moco", "byol", "vicreg"])
    def test_training_lowers_the_loss(self, make_trainer: MakeTrainer, objective: str) -> None:
        trainer = make_trainer(**LEARNING, objective=objective, queue_size=64, momentum=0.9)
        losses = [event.training_loss for event in of_kind(EpochDone, list(trainer.run()))]
        assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 0.2

    def test_each_is_another_training(self, make_trainer: MakeTrainer) -> None:
        ends = []
        for objective in KINDS:
            trainer = make_trainer(objective, objective=objective, queue_size=12)
            list(trainer.run())
            ends.append(weights(trainer))
        assert not any(same(a, b) for i, a in enumerate(ends) for b in ends[:i])


class TestMemory:
    @pytest.mark.parametrize("way", [{"activation_checkpointing": "on"}, {"micro_batch_size": 2}])
    def test_a_training_that_saves_memory_goes_on_to_the_bit(
        self, make_trainer: MakeTrainer, way: dict[str, Any]
    ) -> None:
        whole = make_trainer("whole", **way)
        list(whole.run())
        assert same(weights(whole), weights(interrupted(make_trainer, 3, **way)))

    def test_checkpointing_changes_nothing(self, make_trainer: MakeTrainer) -> None:
        trainers = [make_trainer("a"), make_trainer("b", activation_checkpointing="on")]
        for trainer in trainers:
            list(trainer.run())
        assert same(*map(weights, trainers))

    def run_out(self, trainer: Trainer, monkeypatch: pytest.MonkeyPatch, steps: list[int]) -> None:
        """Let memory run out in the backward pass of these calls."""
        inner, calls = trainer._batch.backward, []

        def backward(*of_step: Any) -> Any:
            calls.append(1)
            found = inner(*of_step)
            if len(calls) in steps:
                raise torch.OutOfMemoryError("out of memory")
            return found

        monkeypatch.setattr(trainer._batch, "backward", backward)

    def test_when_memory_runs_out_it_goes_on_in_a_way_that_takes_less_and_says_so(
        self, make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        expected = make_trainer("expected")
        list(expected.run())
        # Other micro-batches would give other numbers, so these are not to change.
        trainer = make_trainer(micro_batch_size=4)
        self.run_out(trainer, monkeypatch, [2])
        events = list(trainer.run())
        (told,) = of_kind(Message, events)
        assert told.level == "warning"
        assert "memory ran out on cpu in step 2, with 4 pairs of 16 × 16 × 16 voxels" in told.text
        assert "from here on activations are computed again" in told.text
        assert trainer.model.checkpointing
        # No step is lost or taken twice, and statistics count each batch once.
        assert same(weights(trainer), weights(expected))

    def test_room_is_made_for_every_part_of_a_step_by_the_plan_that_holds(
        self, make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        memory = StepMemory(10**12, {"float32": (0, 0)}, 0)
        trainer = make_trainer(micro_batch_size=2, num_epochs=1, memory=memory)
        needed: list[int] = []
        monkeypatch.setattr(training_step, "make_room", needed.append)
        self.run_out(trainer, monkeypatch, [2])
        list(trainer.run())
        # Two parts of each step, twice through the backbone. The second step is taken again.
        assert needed[:8] == [10**12] * 8
        (later,) = set(needed[8:])
        assert 0 < later < 10**9

    def test_when_it_runs_out_again_the_training_ends_and_says_what_to_do(
        self, make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        trainer = make_trainer()
        self.run_out(trainer, monkeypatch, [2, 3])
        with pytest.raises(JobError, match=r"memory ran out on cpu in step 2.*GiB are free"):
            list(trainer.run())

    def test_when_it_runs_out_in_a_later_step_it_goes_on_with_still_less(
        self, make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        trainer = make_trainer()
        self.run_out(trainer, monkeypatch, [2, 4])
        events = list(trainer.run())
        first, second = (message.text for message in of_kind(Message, events))
        assert "in step 2, with 4 pairs" in first
        assert "from here on 2 of 4 pairs go through the network at once" in first
        assert "in step 3, with 2 pairs" in second
        assert "from here on" in second
        assert isinstance(events[-1], Finished)

    def test_what_the_settings_fix_stays_as_it_is(
        self, make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        trainer = make_trainer(activation_checkpointing="off", micro_batch_size=2)
        self.run_out(trainer, monkeypatch, [1])
        with pytest.raises(JobError, match="--micro_batch_size 0 --activation_checkpointing auto"):
            list(trainer.run())


class TestTheBestEpoch:
    def epochs(
        self, values: list[dict[str, float]], **settings: Any
    ) -> tuple[list[bool], list[bool]]:
        selection = Selection(Config.from_values(settings), has_validation=True)
        best, enough = [], []
        for number, value in enumerate(values, start=1):
            best.append(selection.take(number, value))
            enough.append(selection.waited_enough)
        return best, enough

    @pytest.mark.parametrize(
        ("metric", "expected"),
        [
            ("validation_loss", [True, True, False, False]),
            ("retrieval", [True, False, True, False]),
            ("feature_rank", [True, False, True, False]),
        ],
    )
    def test_it_is_that_of_the_metric_that_is_named(
        self, metric: str, expected: list[bool]
    ) -> None:
        values = [{metric: value} for value in (2.0, 1.0, 3.0, 2.0)]
        assert self.epochs(values, best_metric=metric)[0] == expected

    def test_a_training_that_gets_no_better_is_stopped_after_a_while(self) -> None:
        values = [{"validation_loss": value} for value in (3.0, 2.0, 2.5, 2.0, 2.1)]
        assert self.epochs(values, early_stopping=3)[1] == [False] * 4 + [True]
        assert not any(self.epochs(values)[1])

    def test_an_early_stop_is_told_and_stays_when_it_is_gone_on_with(
        self, make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        losses = iter([1.0, 2.0, 2.0, 2.0])
        monkeypatch.setattr(Validation, "measure", lambda _: {"validation_loss": next(losses)})
        settings = {"num_epochs": 9, "early_stopping": 2, "batch_size": 10}
        trainer = make_trainer(**settings)
        events = list(trainer.run())
        assert len(of_kind(EpochDone, events)) == 3
        assert "validation_loss has not improved for 2 epochs" in of_kind(Message, events)[0].text
        assert events[-1].outcome == "completed"
        resumed = make_trainer(**settings)
        resumed.restore(load_checkpoint(trainer.folder.last_checkpoint))
        assert not of_kind(StepDone, list(resumed.run()))


class TestNearestNeighbours:
    def test_they_are_judged_in_each_epoch_by_the_labels(self, make_trainer: MakeTrainer) -> None:
        labels = np.array(["a", "b", "a", "b", "a", "b", "a", "b", "a", "b", "a", None])
        trainer = make_trainer(validation_fraction=0.4, labels=labels)
        epochs = of_kind(EpochDone, list(trainer.run()))
        assert all(0 <= event.knn_accuracy <= 1 for event in epochs)

    def test_they_are_found_by_the_features_of_crops_as_they_are(
        self, make_trainer: MakeTrainer
    ) -> None:
        trainer = make_trainer()
        views = trainer._batch._make_views.__self__  # type: ignore[attr-defined]
        trainer.model.eval()
        found = trainer._batch.pool(trainer.split.training, views.plain)
        expected = trainer.model.pooled(views.plain(trainer.split.training))
        torch.testing.assert_close(found, expected.detach())

    @pytest.mark.parametrize(
        ("labels", "problem"),
        [(["a"] * 12, "not two labels"), ([*"abababab", None, None, None, None], "no validation")],
    )
    def test_labels_that_do_not_suffice_are_told(
        self, make_trainer: MakeTrainer, labels: list[Any], problem: str
    ) -> None:
        split = Split(np.arange(8), np.arange(8, 12))
        assert problem in str(Labelled.of(np.array(labels, dtype=object), split))


def interrupted(make_trainer: MakeTrainer, n_steps: int, **settings: Any) -> Trainer:
    """A training that was broken off after some steps, and gone on with to its end."""
    broken = make_trainer("broken", **settings)
    events = broken.run()
    for event in events:
        if isinstance(event, StepDone) and event.step == n_steps:
            break
    events.close()  # type: ignore[attr-defined]
    resumed = make_trainer("broken", **settings)
    resumed.restore(load_checkpoint(broken.folder.last_checkpoint))
    assert resumed.step == n_steps
    assert of_kind(StepDone, list(resumed.run()))[0].step == n_steps + 1
    return resumed


def test_a_loss_that_is_not_finite_ends_the_training_before_it_spoils_the_weights(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make_trainer()
    before = weights(trainer)
    monkeypatch.setattr(
        "napari_synapse_cl.models.losses.nt_xent", lambda z1, *_, **__: z1.sum() * torch.nan
    )
    with pytest.raises(JobError, match="step 1 is not finite"):
        list(trainer.run())
    kernels = {name for name, p in trainer.model.named_parameters() if p.ndim > 1}
    after = weights(trainer)
    assert all(torch.equal(before[name], after[name]) for name in kernels)


def test_a_full_disk_ends_the_training_and_leaves_the_last_checkpoint(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make_trainer(num_epochs=3)
    events = trainer.run()
    while not isinstance(next(events), CheckpointSaved):
        pass

    def full_disk(*_: Any) -> None:
        raise RuntimeError("[enforce fail at inline_container.cc] write failed")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(JobError, match=r"cannot be written.*one before it is intact"):
        list(events)
    assert load_checkpoint(trainer.folder.last_checkpoint)["step"] == 2


def test_the_learning_rate_rises_linearly_then_falls_along_a_cosine() -> None:
    config = Config.from_values({"learning_rate": 1.0, "warmup_fraction": 0.1})
    rates = [learning_rate(step, 100, config) for step in range(100)]
    assert rates[:10] == pytest.approx(np.arange(1, 11) / 10)
    assert rates[55] == pytest.approx(0.5)
    assert all(a > b for a, b in pairwise(rates[10:]))
    assert rates[-1] < 0.001
    assert learning_rate(0, 1, config) == 1.0


class TestRunFolders:
    def test_metrics_are_written_and_read(self, tmp_path: Path) -> None:
        run = RunFolder(tmp_path)
        run.record(StepDone(1, 1, 2.5, 1e-4, 10.0, 0.5))
        run.record(StepDone(1, 2, 2.25, 1e-4, 10.0, 0.5))
        run.record(EpochDone(1, 2, 2.375, None, True))
        assert read_metrics(run.steps_file)["loss"].tolist() == [2.5, 2.25]
        assert np.isnan(read_metrics(run.epochs_file)["validation_loss"]).all()

    def test_steps_taken_again_are_forgotten_also_if_a_row_was_cut_short(
        self, tmp_path: Path
    ) -> None:
        run = RunFolder(tmp_path)
        for step in (1, 2, 3):
            run.record(StepDone(1, step, step / 10, 1e-4, 10.0, 0.5))
        with run.steps_file.open("a") as file:
            file.write("1,4,0.")
        run.forget_after(2)
        assert read_metrics(run.steps_file)["step"].tolist() == [1, 2]

    def test_discarding_leaves_what_is_not_the_runs(self, tmp_path: Path) -> None:
        for name, foreign in (("a", False), ("b", True)):
            run = RunFolder(tmp_path / name)
            run.create(Config())
            if foreign:
                (run.path / "notes.txt").write_text("mine")
            run.discard()
        assert not (tmp_path / "a").exists()
        assert [p.name for p in (tmp_path / "b").iterdir()] == ["notes.txt"]

    def test_a_folder_that_cannot_be_made_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(InputError, match="cannot write to the output folder"):
            RunFolder(tmp_path / "file" / "run").create(Config())

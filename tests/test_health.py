"""What the health check says of a training, and that it is silent where all is well."""

from dataclasses import replace

import numpy as np
import pytest

from napari_synapse_cl.runs.events import EpochDone, Message, Started, StepDone
from napari_synapse_cl.runs.health import (
    NO_CLASSES,
    HealthCheck,
    best_of,
    chance_of_retrieval,
    does_it_learn,
)

CHANCE = np.log(31)
STARTED = Started(
    "run",
    device="cpu",
    precision="float32",
    n_training=160,
    n_validation=16,
    batch_size=16,
    steps_per_epoch=10,
    total_steps=1000,
    step=0,
    chance_loss=CHANCE,
)
"""100 epochs of 10 steps; guessing gives a loss of log 31 = 3.43."""


def step(number: int, loss: float) -> StepDone:
    return StepDone((number - 1) // 10 + 1, number, loss, 1e-3, 100.0, 1.0)


def epoch(
    number: int,
    *,
    training: float = 1.0,
    validation: float | None = None,
    uniformity: float = -2.5,
    rank: float = 20.0,
) -> EpochDone:
    """An epoch that is healthy but for what is named."""
    validation = 1.0 / number if validation is None else validation
    return EpochDone(number, 10 * number, training, validation, True, 0.5, uniformity, 0.8, rank)


def said(check: HealthCheck, *events: EpochDone | StepDone) -> list[str]:
    messages = [message for event in events for message in check.take(event)]
    assert all(isinstance(m, Message) and m.level == "warning" for m in messages)
    return [message.text for message in messages]


@pytest.fixture
def check() -> HealthCheck:
    check = HealthCheck()
    assert check.take(STARTED) == []
    return check


class TestHealthyTrainings:
    def test_one_that_learns_from_above_chance_is_silent(self, check: HealthCheck) -> None:
        rng = np.random.default_rng(0)
        losses = 0.4 + 5 * np.exp(-np.arange(1000) / 150) + 0.3 * rng.standard_normal(1000)
        for number in range(1, 101):
            steps = range(10 * number - 9, 10 * number + 1)
            assert not said(check, *(step(n, losses[n - 1]) for n in steps))
            loss = float(losses[10 * number - 10 : 10 * number].mean())
            # Batch norm's running statistics settle within the first epochs.
            settled = number > 3
            assert not said(
                check,
                epoch(
                    number,
                    training=loss,
                    validation=0.6 + 3 * 0.95**number,
                    uniformity=-2.0 if settled else 0.0,
                    rank=12.0 if settled else 1.0,
                ),
            )

    def test_noise_far_above_chance_is_no_divergence(self, check: HealthCheck) -> None:
        losses = 12 + 2 * np.random.default_rng(0).standard_normal(1000)
        assert not said(check, *(step(n, loss) for n, loss in enumerate(losses, 1)))

    def test_a_short_pause_in_the_gains_is_no_plateau(self, check: HealthCheck) -> None:
        assert not said(check, *(epoch(n, validation=2.0) for n in range(1, 15)))


class TestCollapse:
    @pytest.mark.parametrize("sign", [{"rank": 1.2}, {"uniformity": -0.01}])
    def test_it_is_told_with_what_to_change(self, check: HealthCheck, sign: dict) -> None:
        [text] = said(check, epoch(10, **sign))
        assert "collapse" in text
        assert "Lower the learning_rate" in text

    def test_it_is_told_once_until_it_has_passed(self, check: HealthCheck) -> None:
        assert said(check, epoch(10, rank=1.1))
        assert not said(check, epoch(11, rank=1.2))
        assert not said(check, epoch(12, rank=9.0))
        assert said(check, epoch(13, rank=1.2))

    def test_three_validation_synapses_are_too_few_to_tell(self) -> None:
        check = HealthCheck()
        check.take(replace(STARTED, n_validation=3))
        assert not said(check, epoch(10, rank=1.1))

    def test_without_validation_nothing_is_said(self, check: HealthCheck) -> None:
        assert not said(check, *(EpochDone(n, 10 * n, 1.0, None, True) for n in range(1, 100)))


class TestDivergence:
    def test_a_loss_that_rises_above_chance_is_told_once(self, check: HealthCheck) -> None:
        falling = [step(n, 1.0) for n in range(1, 101)]
        rising = [step(100 + n, 1.0 + n / 10) for n in range(1, 101)]
        [text] = said(check, *falling, *rising)
        assert "diverges" in text
        assert "1.00 at its lowest" in text
        assert "lower learning_rate" in text

    def test_a_loss_that_rises_below_chance_has_not_diverged(self, check: HealthCheck) -> None:
        losses = [0.5] * 100 + [CHANCE - 0.2] * 100
        assert not said(check, *(step(n, loss) for n, loss in enumerate(losses, 1)))

    def test_one_bad_step_is_not_told(self, check: HealthCheck) -> None:
        losses = [1.0] * 50 + [30.0] + [1.0] * 50
        assert not said(check, *(step(n, loss) for n, loss in enumerate(losses, 1)))

    def test_it_is_told_again_after_the_loss_came_down(self, check: HealthCheck) -> None:
        losses = ([1.0] * 50 + [6.0] * 50) * 2
        assert len(said(check, *(step(n, loss) for n, loss in enumerate(losses, 1)))) == 2


class TestChance:
    def test_a_loss_that_stays_at_chance_is_told_when_it_should_have_fallen(
        self, check: HealthCheck
    ) -> None:
        texts = [said(check, epoch(n, training=CHANCE)) for n in range(1, 60)]
        told = [n for n, text in enumerate(texts, 1) if text]
        assert told == [25]
        assert "stuck" in texts[24][0]
        assert "guessing gives 3.43" in texts[24][0]

    def test_a_loss_that_has_fallen_is_not_stuck(self, check: HealthCheck) -> None:
        assert not said(check, *(epoch(n, training=0.9 * CHANCE) for n in range(1, 60)))


class TestPlateau:
    def test_it_names_the_best_epoch(self, check: HealthCheck) -> None:
        losses = [*np.linspace(3, 1, 30), *np.linspace(1, 1.2, 40)]
        losses[34] = 0.995
        texts = [said(check, epoch(n, validation=loss)) for n, loss in enumerate(losses, 1)]
        told = [n for n, text in enumerate(texts, 1) if text]
        assert told == [50]
        assert "0.995 in epoch 35" in texts[49][0]
        assert "best.pt" in texts[49][0]

    def test_in_a_short_training_ten_epochs_are_waited_for(self) -> None:
        check = HealthCheck()
        check.take(replace(STARTED, total_steps=200))
        texts = [said(check, epoch(n, validation=1.0)) for n in range(1, 21)]
        # The first epoch whose validation means something is the fifth.
        assert [n for n, text in enumerate(texts, 1) if text] == [15]

    def test_before_batch_norm_has_settled_no_loss_is_a_mark_to_beat(
        self, check: HealthCheck
    ) -> None:
        unsettled = [epoch(n, validation=0.1) for n in range(1, 5)]
        falling = [epoch(n, validation=3.0 - 0.04 * n) for n in range(5, 60)]
        assert not said(check, *unsettled, *falling)

    def test_the_best_epoch_is_that_of_the_checkpoint_even_if_it_came_early(
        self, check: HealthCheck
    ) -> None:
        early = [epoch(n, validation=2.0 - 0.1 * n) for n in range(1, 5)]
        flat = [epoch(n, validation=1.7) for n in range(5, 40)]
        [message] = said(check, *early, *flat)
        assert "best was 1.600 in epoch 4" in message


def test_of_the_past_only_what_still_holds_is_told(check: HealthCheck) -> None:
    past = [epoch(10, rank=1.1), epoch(11), *(epoch(n, validation=0.5) for n in range(12, 40))]
    [message] = check.catch_up([step(n, 1.0) for n in range(1, 390)], past)
    assert "not improved" in message.text
    assert not said(check, epoch(40, validation=0.5))


class TestOtherObjectives:
    def test_without_a_chance_level_neither_divergence_nor_being_stuck_is_told(
        self, check: HealthCheck
    ) -> None:
        check.take(replace(STARTED, chance_loss=None))
        told = [m for n in range(1, 400) for m in check.take(step(n, 1.0 + n))]
        told += [m for n in range(1, 40) for m in check.take(epoch(n, training=9.0))]
        assert told == []

    def test_losses_below_zero_reach_a_plateau_too(self, check: HealthCheck) -> None:
        check.take(STARTED)
        falling = [m for n in range(1, 30) for m in check.take(epoch(n, validation=-float(n)))]
        assert falling == []
        flat = [m for n in range(30, 60) for m in check.take(epoch(n, validation=-29.0))]
        assert any("has not improved" in message.text for message in flat)


def found(number: int, n: int, of: int = 16) -> EpochDone:
    """An epoch after which so many of the held-out synapses are found again."""
    return EpochDone(number, 10 * number, 1.0, 1.0, False, retrieval=n / of)


class TestWhetherItLearns:
    @pytest.mark.parametrize("n", [1, 2, 16, 100])
    def test_chance_is_that_of_a_blind_choice(self, n: int) -> None:
        rng = np.random.default_rng(0)
        views = np.arange(2 * n)
        hits = []
        for _ in range(20_000 // n):
            # Any other view, but not the view itself.
            chosen = (views + rng.integers(1, max(2, 2 * n), 2 * n)) % (2 * n)
            hits.append((chosen == (views + n) % (2 * n)).mean())
        assert chance_of_retrieval(n) == pytest.approx(np.mean(hits), abs=0.01)

    @pytest.mark.parametrize(
        ("first", "now", "said"),
        [
            (5, 9, "It learns: it finds 9 of 16 held-out synapses again, by chance 1; "),
            (0, 2, "Not yet: after epoch 4 it finds 2 of 16 held-out synapses again, by chance 1."),
            (9, 10, "No clear gain: it finds 10 of 16 "),
            (15, 16, "It finds 16 of 16 held-out synapses again, by chance 1; more cannot be seen"),
            (12, 5, "It gets worse: it finds 5 of 16 "),
        ],
    )
    def test_it_is_told_against_the_first_epoch_and_chance(
        self, first: int, now: int, said: str
    ) -> None:
        text = does_it_learn(found(1, first), found(4, now), 16)
        assert text.startswith(said)
        assert (NO_CLASSES in text) == ("Not yet" not in text)
        assert (f"after epoch 1 it was {first}" in text) == (now not in (2, 16))

    def test_of_the_first_epoch_it_is_not_known(self) -> None:
        text = does_it_learn(found(1, 9), found(1, 9), 16)
        assert "finds 9 of 16" in text
        assert "the next epochs tell" in text

    def test_of_few_synapses_little_is_said(self) -> None:
        text = does_it_learn(found(1, 1, of=4), found(5, 4, of=4), 4)
        assert text == (
            "After epoch 5 it finds 4 of 4 held-out synapses again, by chance 1; so few tell "
            "little."
        )

    def test_without_held_out_synapses_the_loss_alone_tells(self) -> None:
        nothing = EpochDone(1, 10, 1.0, None, True)
        assert "the loss alone" in does_it_learn(nothing, nothing, 0)

    @pytest.mark.parametrize(
        ("metric", "best"), [("retrieval", 2), ("validation_loss", 3), ("knn_accuracy", 1)]
    )
    def test_the_best_epoch_is_that_of_the_metric_or_the_training_loss(
        self, metric: str, best: int
    ) -> None:
        # Nothing is known of the neighbours here.
        losses = {1: (1.0, 3.0), 2: (2.0, 2.0), 3: (3.0, 1.0)}
        shares = {1: 0.1, 2: 0.9, 3: 0.5}
        epochs = [
            EpochDone(n, n, training, validation, False, retrieval=shares[n])
            for n, (training, validation) in losses.items()
        ]
        chosen = best_of(epochs, metric)
        assert chosen is not None
        assert chosen.epoch == best
        assert best_of([], metric) is None

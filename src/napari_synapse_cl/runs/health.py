"""Tell from the metrics of a training that it goes wrong, in plain language."""

from collections import deque
from collections.abc import Iterable
from itertools import chain

from napari_synapse_cl.runs.events import EpochDone, Event, Message, Started, StepDone

SETTLING_STEPS = 50
"""Steps before a validation means something: batch norm's running statistics settle."""
COLLAPSED_RANK = 1.5
COLLAPSED_UNIFORMITY = -0.05
LOSS_WINDOW = 20
"""Steps whose losses are averaged."""
DIVERGED_RATIO = 1.25
"""How many times its lowest a loss is that has diverged."""
CALMED_RATIO = 1.1
"""Below this it has no longer: a loss about one mark would be told again and again."""
STUCK_SHARE = 0.97
"""A loss above this share of that of chance has learnt nothing."""
STUCK_EPOCHS = 5
STUCK_PART = 0.25
"""Epochs by which a loss should have fallen: the larger of a number and a share of all."""
PLATEAU_GAIN = 0.01
PLATEAU_EPOCHS = 10
PLATEAU_SHARE = 0.2
"""Epochs without gain that are a plateau: the larger of a number and a share of all."""


class HealthCheck:
    """Judge a training by what it tells; each warning is told once until it no longer holds."""

    def __init__(self) -> None:
        self._holding: dict[str, Message] = {}
        self._started: Started | None = None
        self._losses: deque[float] = deque(maxlen=LOSS_WINDOW)
        self._lowest_loss = float("inf")
        self._lowest_epoch_loss = float("inf")
        self._best = (0, float("inf"))
        self._gained = (0, float("inf"))

    def take(self, event: Event) -> list[Message]:
        """Return the warnings that this event gives rise to."""
        known = dict(self._holding)
        match event:
            case Started():
                self._started = event
            case StepDone() if self._started is not None:
                self._check_divergence(event, self._started)
            case EpochDone() if self._started is not None:
                self._check_collapse(event, self._started)
                self._check_chance(event, self._started)
                self._check_plateau(event, self._started)
        return [message for kind, message in self._holding.items() if kind not in known]

    def catch_up(self, *parts: Iterable[Event]) -> list[Message]:
        """Take many events of the past; return the warnings that are new and still hold."""
        known = dict(self._holding)
        for event in chain(*parts):
            self.take(event)
        return [message for kind, message in self._holding.items() if kind not in known]

    def _hold(self, kind: str, holds: bool, text: str) -> None:
        if not holds:
            self._holding.pop(kind, None)
        elif kind not in self._holding:
            self._holding[kind] = Message(text, "warning")

    def _check_divergence(self, event: StepDone, started: Started) -> None:
        chance = started.chance_loss
        if chance is None:
            return
        self._losses.append(event.loss)
        if len(self._losses) < LOSS_WINDOW:
            return
        loss = sum(self._losses) / LOSS_WINDOW
        self._lowest_loss = min(self._lowest_loss, loss)
        ratio = CALMED_RATIO if "divergence" in self._holding else DIVERGED_RATIO
        self._hold(
            "divergence",
            loss > ratio * max(chance, self._lowest_loss),
            f"The training diverges: the loss is {loss:.2f} on average over {LOSS_WINDOW} steps, "
            f"after {self._lowest_loss:.2f} at its lowest, and above the {chance:.2f} of guessing. "
            "The weights are being spoilt. Stop, and train anew with a lower learning_rate or a "
            "larger warmup_fraction",
        )

    def _check_collapse(self, event: EpochDone, started: Started) -> None:
        rank, spread = event.effective_rank, event.uniformity
        if rank is None or spread is None or started.n_validation < 4:
            return
        self._hold(
            "collapse",
            event.step >= SETTLING_STEPS
            and (rank < COLLAPSED_RANK or spread > COLLAPSED_UNIFORMITY),
            f"The embeddings collapse: all validation synapses look alike to the network "
            f"(effective rank {rank:.1f}, uniformity {spread:.2f}), so its features would tell "
            "nothing apart. Lower the learning_rate, raise batch_size for more negatives, or "
            "raise the temperature",
        )

    def _check_chance(self, event: EpochDone, started: Started) -> None:
        chance = started.chance_loss
        if chance is None:
            return
        self._lowest_epoch_loss = min(self._lowest_epoch_loss, event.training_loss)
        self._hold(
            "chance",
            event.epoch >= max(STUCK_EPOCHS, STUCK_PART * _n_epochs(started))
            and event.step >= 2 * SETTLING_STEPS
            and self._lowest_epoch_loss > STUCK_SHARE * chance,
            f"The training is stuck: after epoch {event.epoch} its loss is "
            f"{event.training_loss:.2f}, and guessing gives {chance:.2f}, so the network does not "
            "find the two views of a synapse yet. Raise the learning_rate, weaken the "
            "augmentations, or check that the positions lie on synapses",
        )

    def _check_plateau(self, event: EpochDone, started: Started) -> None:
        loss = event.validation_loss
        if loss is None or event.step < SETTLING_STEPS:
            return
        if loss < self._best[1]:
            self._best = (event.epoch, loss)
        # Losses of some objectives are negative.
        if loss < self._gained[1] - PLATEAU_GAIN * abs(loss):
            self._gained = (event.epoch, loss)
        waited = event.epoch - self._gained[0]
        self._hold(
            "plateau",
            waited >= max(PLATEAU_EPOCHS, PLATEAU_SHARE * _n_epochs(started)),
            f"The validation loss has not improved by {PLATEAU_GAIN:.0%} for {waited} epochs; its "
            f"best was {self._best[1]:.3f} in epoch {self._best[0]}. More epochs may fit the "
            "training synapses alone. Stop and use checkpoints/best.pt, or train anew with "
            "stronger augmentations or more synapses",
        )


def _n_epochs(started: Started) -> float:
    return started.total_steps / started.steps_per_epoch

"""Tell from the metrics of a training whether it learns or goes wrong, in plain language."""

from collections import deque
from collections.abc import Iterable
from itertools import chain

from napari_synapse_cl.config.training_sections import HIGHER_IS_BETTER
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
FEW_HELD_OUT = 8
"""With fewer synapses, retrieval tells little."""
FOUND_BY_CHANCE = 2
"""So many synapses or fewer can be found again by chance: of any number it is one in the mean."""
LEARNT_GAIN = 4
LEARNT_SHARE = 0.05
"""How many more synapses are found than after the first epoch, where that is no accident: the
larger of a number and a share of all."""
NEARLY_ALL = 0.9
NO_CLASSES = "This does not show that classes come apart."
PLATEAU_GAIN = 0.01
PLATEAU_EPOCHS = 10
PLATEAU_SHARE = 0.2
"""Epochs without gain that are a plateau: the larger of a number and a share of all."""


def chance_of_retrieval(n: int) -> float:
    """Return the share of views of `n` synapses whose partner a blind choice would find."""
    return 1 / max(1, 2 * n - 1)


def does_it_learn(first: EpochDone, now: EpochDone, n: int) -> str:
    """Say what an epoch tells of the learning, and what it does not tell.

    Parameters
    ----------
    first
        The first epoch of the training.
    n
        How many synapses are held out.
    """
    if now.retrieval is None or first.retrieval is None or not n:
        return (
            "No synapses are held out, so the loss alone tells how it goes on: a Validation "
            "fraction above 0 would tell more."
        )
    found, before = round(n * now.retrieval), round(n * first.retrieval)
    chance = max(1, round(n * chance_of_retrieval(n)))
    finds = f"finds {found} of {n} held-out synapses again, by chance {chance}"
    if n < FEW_HELD_OUT:
        return f"After epoch {now.epoch} it {finds}; so few tell little."
    if found <= FOUND_BY_CHANCE:
        return f"Not yet: after epoch {now.epoch} it {finds}."
    if now.epoch == first.epoch:
        return f"After epoch {now.epoch} it {finds}; the next epochs tell whether it learns."
    gain, needed = found - before, max(LEARNT_GAIN, LEARNT_SHARE * n)
    since = f"after epoch {first.epoch} it was {before}. {NO_CLASSES}"
    if gain >= needed:
        return f"It learns: it {finds}; {since}"
    if gain <= -needed:
        return f"It gets worse: it {finds}; {since}"
    if found >= NEARLY_ALL * n:
        return f"It {finds}; more cannot be seen by this. {NO_CLASSES}"
    return f"No clear gain: it {finds}; {since}"


def better(now: EpochDone, best: EpochDone | None, metric: str) -> bool:
    """Whether an epoch is better than the best: by a metric, or if it lacks the training loss."""
    if best is None:
        return True
    if getattr(now, metric) is None or getattr(best, metric) is None:
        metric = "training_loss"
    value, other = getattr(now, metric), getattr(best, metric)
    return bool(value > other if metric in HIGHER_IS_BETTER else value < other)


def best_of(epochs: Iterable[EpochDone], metric: str) -> EpochDone | None:
    """Return the best epoch by a metric; None of none."""
    best = None
    for epoch in epochs:
        if better(epoch, best, metric):
            best = epoch
    return best


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

    @property
    def holding(self) -> set[str]:
        """What the warnings say that hold now."""
        return {message.text for message in self._holding.values()}

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
        if loss is None:
            return
        # The best one is told as the checkpoint has it; only waiting begins after the warm-up.
        if loss < self._best[1]:
            self._best = (event.epoch, loss)
        if event.step < SETTLING_STEPS:
            return
        # Losses of some objectives are negative.
        if loss < self._gained[1] - PLATEAU_GAIN * abs(loss):
            self._gained = (event.epoch, loss)
        waited = event.epoch - self._gained[0]
        self._hold(
            "plateau",
            waited >= max(PLATEAU_EPOCHS, PLATEAU_SHARE * _n_epochs(started)),
            f"The validation loss has not improved by {PLATEAU_GAIN:.0%} for {waited} epochs; its "
            f"best was {self._best[1]:.3f} in epoch {self._best[0]}. More epochs may fit the "
            "training synapses alone: use checkpoints/best.pt, or train anew with "
            "stronger augmentations or more synapses",
        )


def _n_epochs(started: Started) -> float:
    return started.total_steps / started.steps_per_epoch

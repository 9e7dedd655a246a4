"""Which epoch's network is the best, and when to wait for a better one no longer."""

from typing import Any

from napari_synapse_cl.config import TrainingConfig

HIGHER_IS_BETTER = {"retrieval", "effective_rank", "knn_accuracy"}


class Selection:
    """Judges epochs by one metric.

    Parameters
    ----------
    config
        The metric, and how long to wait.
    has_validation
        Whether there are synapses that are held out; else the training loss decides.

    Attributes
    ----------
    metric
        Name of the metric, as in :class:`~napari_synapse_cl.events.EpochDone`.
    best_epoch
        The best epoch so far, 0 for none.
    """

    def __init__(self, config: TrainingConfig, *, has_validation: bool) -> None:
        self.metric: str = config.best_metric if has_validation else "training_loss"
        self.best_epoch = 0
        self._best = float("inf")
        self._patience = config.early_stopping
        self._last_epoch = 0

    def take(self, epoch: int, values: dict[str, Any]) -> bool:
        """Return whether an epoch is the best so far.

        Parameters
        ----------
        epoch
            Its number, from 1.
        values
            Its metrics by name.
        """
        self._last_epoch = epoch
        value = -values[self.metric] if self.metric in HIGHER_IS_BETTER else values[self.metric]
        if not value < self._best:
            return False
        self._best, self.best_epoch = value, epoch
        return True

    @property
    def waited_enough(self) -> bool:
        """Whether the training should end, since it has not become better for long."""
        return 0 < self._patience <= self._last_epoch - self.best_epoch

    def state(self) -> dict[str, Any]:
        """Return what :meth:`restore` needs, in plain types."""
        return {
            "best": self._best,
            "best_epoch": self.best_epoch,
            "last_epoch": self._last_epoch,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what :meth:`state` returned.

        Raises
        ------
        KeyError
            If it is something else.
        """
        self._best = float(state["best"])
        self.best_epoch = int(state["best_epoch"])
        self._last_epoch = int(state["last_epoch"])

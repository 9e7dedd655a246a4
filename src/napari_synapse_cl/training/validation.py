"""What a network makes of synapses that it is not trained on."""

import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from napari_synapse_cl.data.split import Split
from napari_synapse_cl.features.embeddings import feature_rank, measure
from napari_synapse_cl.models.vgg3d import ContrastiveModel
from napari_synapse_cl.runs.held_out import HeldOut
from napari_synapse_cl.training.objectives import Objective, of_pairs
from napari_synapse_cl.training.step import FullBatch
from napari_synapse_cl.training.views import VALIDATION_EPOCH

MOST_MEASURED = 4096
"""Synapses on which monitors are measured; of more, as many are taken evenly."""
N_NEIGHBORS = 5


@dataclass(frozen=True)
class Labelled:
    """Synapses whose labels are known, as indices into the crops."""

    names: np.ndarray
    """``(N,)`` strings, the label of every crop; those of others are empty."""
    training: np.ndarray
    validation: np.ndarray
    """Those that vote, and those that are voted on."""

    @classmethod
    def of(cls, labels: ArrayLike, split: Split) -> "Labelled | str":
        """Return the synapses by which nearest neighbours can be judged, or why they cannot.

        Parameters
        ----------
        labels
            ``(N,)``, of every crop, as in
            :func:`~napari_synapse_cl.features.analysis.label_names`.
        split
            Which of the crops train and which validate.
        """
        # scikit-learn takes longer to import than a job should wait to begin.
        from napari_synapse_cl.features.analysis import label_names

        names = label_names(labels)
        training, validation = (
            _evenly(part[names[part] != ""]) for part in (split.training, split.validation)
        )
        if len(np.unique(names[training])) < 2:
            return "the training synapses have not two labels to tell apart"
        if not len(validation):
            return "no validation synapse has a label"
        return cls(names, training, validation)


class Validation:
    """Measures a network on the synapses that are held out, always on the same views of them.

    Parameters
    ----------
    model, objective
        The network, and what it is trained for.
    batch
        Computes with both.
    split
        Which synapses are held out.
    batch_size
        Synapses in a batch: the loss depends on the number of negatives.
    labelled
        By which nearest neighbours are judged, if there are any.
    read_plain
        Reads ``(n, 1, D, H, W)`` crops as they are, of the size of the views.
    """

    def __init__(
        self,
        model: ContrastiveModel,
        objective: Objective,
        batch: FullBatch,
        split: Split,
        batch_size: int,
        labelled: Labelled | None,
        read_plain: Callable[[np.ndarray], Tensor],
    ) -> None:
        self._model = model
        self._objective = objective
        self._batch = batch
        self._held_out = split.validation
        self._labelled = labelled
        self._read_plain = read_plain
        self._features: Tensor | None = None
        # Parts of nearly equal size, each with nearly as many negatives as in training.
        self._n_parts = max(1, len(split.validation) // batch_size)

    @torch.inference_mode()
    def measure(self) -> dict[str, float]:
        """Return ``validation_loss``, the monitors, and ``knn_accuracy`` where there are labels.

        ``feature_rank`` is that of the pooled features of crops as they are, without a view: so it
        can be compared between recipes.
        """
        if not len(self._held_out):
            return {}
        self._model.eval()
        self._objective.eval()
        total, embeddings = 0.0, []
        for part in np.array_split(self._held_out, self._n_parts):
            embedded = self._batch.embed(part, VALIDATION_EPOCH)
            z = of_pairs(self._model.head, embedded.pooled)
            shown = torch.from_numpy(np.stack([part, part], axis=1))
            loss = self._objective.validation_loss(z, embedded.targets, shown)
            loss = self._objective.with_texture(loss, embedded.pooled, embedded.described)
            total += len(part) * loss.item()
            embeddings.append(z)
        # Comparing all with all would take longer than the epoch where there are very many.
        z = torch.cat(embeddings)[_evenly(np.arange(len(self._held_out)))]
        plain = self._features = self._batch.pool(_evenly(self._held_out), self._read_plain)
        found = {"validation_loss": total / len(self._held_out)}
        found.update(asdict(measure(z[:, 0], z[:, 1])))
        found["feature_rank"] = feature_rank(plain)
        if self._labelled is not None:
            found["knn_accuracy"] = self._knn_accuracy(self._labelled)
        return found

    def held_out(self, epoch: int, step: int) -> HeldOut | None:
        """Return the features that were measured last, None where no synapse is held out."""
        if self._features is None:
            return None
        synapses = _evenly(self._held_out)
        labels = np.full(len(synapses), "")
        if self._labelled is not None:
            labels = self._labelled.names[synapses]
        return HeldOut(epoch, step, synapses, self._features.float().cpu().numpy(), labels)

    def _knn_accuracy(self, labelled: Labelled) -> float:
        """Return the balanced accuracy of the nearest training synapses' vote."""
        from napari_synapse_cl.features.analysis import probe_accuracy

        voters, judged = labelled.training, labelled.validation
        both = np.concatenate([voters, judged])
        features = self._batch.pool(both, self._read_plain).cpu().numpy()
        places = np.arange(len(both))
        fold = places[: len(voters)], places[len(voters) :]
        with warnings.catch_warnings():
            # Labels that no synapse has which is held out may be predicted.
            warnings.filterwarnings("ignore", "y_pred contains classes", UserWarning)
            n_neighbors = min(N_NEIGHBORS, len(voters))
            return probe_accuracy(features, labelled.names[both], [fold], "knn", n_neighbors)


def _evenly(items: np.ndarray) -> np.ndarray:
    """Return all items, or as many as are measured, taken evenly."""
    n = len(items)
    return items[np.unique(np.linspace(0, n - 1, min(n, MOST_MEASURED)).astype(int))]

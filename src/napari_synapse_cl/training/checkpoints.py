"""Checkpoints of a training: all that it needs to go on as if it had not been interrupted."""

from pathlib import Path
from typing import Any

import torch

from napari_synapse_cl.config import Config
from napari_synapse_cl.errors import JobError, reason
from napari_synapse_cl.models.checkpoints import save_checkpoint
from napari_synapse_cl.models.projection import ContrastiveModel
from napari_synapse_cl.runs.folder import RunFolder
from napari_synapse_cl.training.objectives import Objective
from napari_synapse_cl.training.soundness import check_options


class Keeper:
    """Writes what is trained, and takes it back.

    Parameters
    ----------
    folder
        Where checkpoints go.
    model, objective, optimizer
        What is trained, and how.
    config
        The settings.
    """

    def __init__(
        self,
        folder: RunFolder,
        model: ContrastiveModel,
        objective: Objective,
        optimizer: torch.optim.Optimizer,
        config: Config,
    ) -> None:
        self._folder = folder
        self._model = model
        self._objective = objective
        self._optimizer = optimizer
        self._config = config

    def save(self, path: Path, **more: Any) -> None:
        """Write a checkpoint, whole or not at all.

        Parameters
        ----------
        path
            The file.
        **more
            How far the training is, in plain types.

        Raises
        ------
        JobError
            If it cannot be written. The one before it is intact.
        """
        try:
            self._folder.owned.claim(path)
            save_checkpoint(
                path,
                self._model.backbone,
                self._model.architecture,
                head_state_dict=self._model.head.state_dict(),
                objective_state_dict=self._objective.state_dict(),
                optimizer_state_dict=self._optimizer.state_dict(),
                config=self._config.as_json(),
                **more,
            )
        # torch.save reports a full disk as RuntimeError.
        except (OSError, RuntimeError) as error:
            if not self._folder.path.is_dir():
                raise JobError(self._folder.why_unwritable(error)) from error
            kept = ". The one before it is intact" if path.exists() else ""
            raise JobError(
                f"the checkpoint {path} cannot be written: {reason(error)}{kept}"
            ) from error

    def restore(self, checkpoint: dict[str, Any]) -> None:
        """Take back what :meth:`save` wrote.

        Raises
        ------
        KeyError, ValueError, RuntimeError
            If it is of another model.
        """
        features = {
            name.removeprefix("features."): tensor
            for name, tensor in checkpoint["model_state_dict"].items()
        }
        self._model.backbone.features.load_state_dict(features)
        self._model.head.load_state_dict(checkpoint["head_state_dict"])
        self._objective.load_state_dict(checkpoint["objective_state_dict"])
        check_options(checkpoint["optimizer_state_dict"], self._optimizer)
        self._optimizer.load_state_dict(checkpoint["optimizer_state_dict"])

"""Pictures that a run leaves behind."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from napari_synapse_cl.files import replacing


def draw_loss(steps: dict[str, np.ndarray], epochs: dict[str, np.ndarray], path: Path) -> None:
    """Draw the training loss per step and the validation loss per epoch.

    Parameters
    ----------
    steps, epochs
        Columns of ``steps.csv`` and ``epochs.csv``.
    path
        The PNG file to write.
    """
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.add_subplot(xlabel="step", ylabel="NT-Xent loss", title="Contrastive training")
    if steps:
        axes.plot(steps["step"], steps["loss"], color="0.7", linewidth=0.8, label="training, step")
    if epochs:
        axes.plot(epochs["step"], epochs["training_loss"], ".-", label="training, epoch mean")
        if np.isfinite(epochs["validation_loss"]).any():
            axes.plot(epochs["step"], epochs["validation_loss"], ".-", label="validation")
    axes.spines[["top", "right"]].set_visible(False)
    if axes.lines:
        axes.legend(frameon=False)
    _save(figure, path)


def draw_feature_map(
    components: np.ndarray, labels: np.ndarray | None, title: str, path: Path
) -> None:
    """Draw synapses as points in two dimensions, coloured by label.

    Parameters
    ----------
    components
        ``(N, 2)``.
    labels
        ``(N,)`` strings, or None for points of one colour.
    title
        Above the picture.
    path
        The PNG file to write.
    """
    figure = Figure(figsize=(5.6, 4.8), layout="constrained")
    axes = figure.add_subplot(
        xlabel="principal component 1", ylabel="principal component 2", title=title
    )
    groups = [("synapses", np.ones(len(components), bool))]
    if labels is not None:
        groups = [(str(label), labels == label) for label in np.unique(labels)]
    for name, chosen in groups:
        x, y = components[chosen].T
        axes.scatter(x, y, s=18, alpha=0.8, linewidths=0, label=name)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=150)

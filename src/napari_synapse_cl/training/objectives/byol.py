"""Bootstrap your own latent."""

from math import cos, pi

from torch import Tensor, nn

from napari_synapse_cl.config import Config
from napari_synapse_cl.models import losses
from napari_synapse_cl.models.projection import ContrastiveModel
from napari_synapse_cl.training.objectives.base import Following, of_pairs


class Byol(Following, name="byol"):
    """Predict a view's embedding, by a slowly following encoder, from that of the other view.

    It has no loss of chance: nothing is easier to predict than what is always the same.

    References
    ----------
    Grill et al.: Bootstrap Your Own Latent, 2020. https://arxiv.org/abs/2006.07733
    """

    def __init__(self, model: ContrastiveModel, config: Config) -> None:
        super().__init__(model, config)
        dim, hidden_dim = model.head.out_dim, config.proj_hidden_dim
        self.predictor = nn.Sequential(
            nn.Linear(dim, hidden_dim, bias=False),
            nn.BatchNorm1d(hidden_dim),
            nn.ReLU(inplace=True),
            nn.Linear(hidden_dim, dim),
        )

    def loss(self, z: Tensor, targets: Tensor | None, synapses: Tensor) -> Tensor:
        """Return the mean of :func:`~napari_synapse_cl.models.losses.byol` over both views."""
        assert targets is not None
        predicted = of_pairs(self.predictor, z)
        return losses.byol(predicted.flatten(0, 1), targets.detach().flip(1).flatten(0, 1))

    def momentum_at(self, progress: float) -> float:
        """Return the momentum, which rises to 1 along a cosine."""
        return 1 - (1 - self.config.momentum) * (cos(pi * progress) + 1) / 2

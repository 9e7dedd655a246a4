"""VGG3D in nothing but PyTorch: packages for other programs carry this file as it is.

Its tensors have the names and shapes of the ``features`` of
:class:`napari_synapse_cl.models.vgg3d.Vgg3D`, so that a state dict fits both.
"""

from collections.abc import Sequence

from torch import Tensor, nn


class StandaloneVgg3D(nn.Module):
    """The maps of chosen layers, and the last map, of a VGG for volumes without its classifier.

    Parameters
    ----------
    fmaps
        Channels of each stage.
    n_convolutions
        3×3×3 convolutions in each stage, each with batch norm and ReLU.
    downsample_factors
        Max pooling along z, y, x after each stage.
    layers
        Indices into ``features`` of the layers whose maps are put out, in this order.

    References
    ----------
    Simonyan, Zisserman: Very Deep Convolutional Networks for Large-Scale Image Recognition, 2015.
    https://arxiv.org/abs/1409.1556
    """

    def __init__(
        self,
        fmaps: Sequence[int],
        n_convolutions: Sequence[int],
        downsample_factors: Sequence[Sequence[int]],
        layers: Sequence[int] = (),
    ) -> None:
        super().__init__()
        modules: list[nn.Module] = []
        before = 1
        for channels, n, factors in zip(fmaps, n_convolutions, downsample_factors, strict=True):
            for _ in range(n):
                modules += [
                    nn.Conv3d(before, channels, kernel_size=3, padding=1),
                    nn.BatchNorm3d(channels),
                    nn.ReLU(),
                ]
                before = channels
            modules.append(nn.MaxPool3d(tuple(factors)))
        self.features = nn.Sequential(*modules)
        self.layers = tuple(layers)

    def forward(self, crops: Tensor) -> tuple[Tensor, ...]:
        """Return maps ``(B, C, d, h, w)`` of crops ``(B, 1, D, H, W)`` in [−1, 1], the last last.

        Each side of a crop must be a multiple of the product of the pooling along it.
        """
        maps = []
        for module in self.features:
            crops = module(crops)
            maps.append(crops)
        return *(maps[index] for index in self.layers), crops

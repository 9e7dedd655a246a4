"""A crop and its two views, side by side as slices through their centres."""

from typing import Any

import numpy as np
import pyqtgraph as pg

from napari_synapse_cl.widgets.pairs import Pair
from napari_synapse_cl.widgets.theme import Colors

COLUMNS = ("Original", "View 1", "View 2")
AXES = ("z", "y", "x")
MINIMUM_SIZE = 300


class PairPictures(pg.GraphicsLayoutWidget):
    """Three columns (original, view 1, view 2) by three rows (slices across z, y and x).

    All show the intensities from 0 to 1, and all voxels in their physical proportions.

    Parameters
    ----------
    viewer
        Its theme gives the colours.

    Attributes
    ----------
    images
        The picture in each column and row.
    """

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self._viewer = viewer
        self.setMinimumSize(MINIMUM_SIZE, MINIMUM_SIZE)
        self.ci.setContentsMargins(0, 0, 0, 0)
        self.ci.setSpacing(3)
        self._labels = [
            self.addLabel(name, row=0, col=i) for i, name in enumerate(COLUMNS, start=1)
        ]
        self._labels += [
            self.addLabel(f"across {axis}", row=i, col=0, angle=-90)
            for i, axis in enumerate(AXES, start=1)
        ]
        self.images: dict[tuple[str, str], pg.ImageItem] = {}
        for col, name in enumerate(COLUMNS, start=1):
            for row, axis in enumerate(AXES, start=1):
                box = self.addViewBox(row=row, col=col, lockAspect=True, enableMenu=False)
                box.invertY()
                box.setMouseEnabled(False, False)
                box.setDefaultPadding(0)
                image = pg.ImageItem(axisOrder="row-major")
                box.addItem(image)
                self.images[name, axis] = image
        self.follow_theme()

    def show_pair(self, pair: Pair, voxel_size: tuple[float, float, float]) -> None:
        """Show a pair.

        Parameters
        ----------
        pair
            The crop and its views.
        voxel_size
            Voxel size along z, y, x, in any unit.
        """
        for name, volume in zip(COLUMNS, (pair.crop, *pair.views), strict=True):
            for i, axis in enumerate(AXES):
                picture = np.take(volume, volume.shape[i] // 2, axis=i)
                image = self.images[name, axis]
                image.setImage(picture, levels=(0, 1))
                down, right = (
                    n * s for n, s in zip(picture.shape, np.delete(voxel_size, i), strict=True)
                )
                image.setRect(0, 0, right, down)
                image.getViewBox().autoRange(padding=0)

    def clear_pair(self) -> None:
        """Show nothing."""
        for image in self.images.values():
            image.clear()

    def follow_theme(self) -> None:
        """Take the colours of the viewer's theme."""
        colors = Colors(self._viewer)
        self.setBackground(colors.background)
        for label in self._labels:
            label.setText(label.text, color=colors.text, size="9pt")

"""Mirror images and turns that keep a crop's size, and their inverses."""

import numpy as np
import pytest
import torch

from napari_synapse_cl.features.readout import symmetries


@pytest.mark.parametrize(
    ("averaging", "shape", "voxel_size", "downsampling", "n"),
    [
        ("none", (8, 8, 8), (1, 1, 1), (16, 16, 16), 1),
        ("flips", (8, 8, 8), (1, 1, 1), (16, 16, 16), 8),
        ("flips", (4, 6, 8), (1, 1, 1), (16, 16, 16), 8),
        ("flips+rotations", (8, 8, 8), (10, 10, 10), (16, 16, 16), 48),
        # Sections thicker than pixels are wide: turns about z alone.
        ("flips+rotations", (8, 8, 8), (40, 4, 4), (16, 16, 16), 16),
        ("flips+rotations", (4, 8, 8), (10, 10, 10), (16, 16, 16), 16),
        ("flips+rotations", (8, 8, 8), (10, 10, 10), (2, 16, 16), 16),
        ("flips+rotations", (4, 6, 8), (10, 10, 10), (16, 16, 16), 8),
    ],
)
def test_there_are_as_many_as_size_voxels_and_network_allow(
    averaging: str, shape: tuple, voxel_size: tuple, downsampling: tuple, n: int
) -> None:
    assert len(symmetries(averaging, shape, voxel_size, downsampling)) == n


def test_all_images_of_a_cube_differ_and_the_first_is_the_cube_itself() -> None:
    crop = torch.arange(27.0).view(1, 1, 3, 3, 3)
    images = [s.apply(crop) for s in symmetries("flips+rotations", (3, 3, 3))]
    assert torch.equal(images[0], crop)
    assert len({tuple(image.flatten().tolist()) for image in images}) == 48


def test_each_image_is_turned_back() -> None:
    crop = torch.rand(2, 3, 4, 4, 4)
    for symmetry in symmetries("flips+rotations", (4, 4, 4)):
        assert torch.equal(symmetry.undo(symmetry.apply(crop)), crop)


def test_images_preserve_distances() -> None:
    # Two voxels are as far from each other in every image: these are motions of the cube.
    crop = torch.zeros(1, 1, 5, 5, 5)
    crop[0, 0, 0, 1, 2], crop[0, 0, 4, 3, 2] = 1, 2
    for symmetry in symmetries("flips+rotations", (5, 5, 5)):
        image = symmetry.apply(crop)[0, 0].numpy()
        one, other = np.argwhere(image == 1)[0], np.argwhere(image == 2)[0]
        assert np.square(one - other).sum() == 16 + 4

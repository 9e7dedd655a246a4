"""Blur of single sections."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np

from napari_synapse_cl.augmentations.base import Random, SectionTransform, section_numbers
from napari_synapse_cl.augmentations.blur import blur_matrices
from napari_synapse_cl.config import AugmentationConfig

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class SectionBlur(SectionTransform):
    """A Gaussian blur within some sections, as of images that are out of focus.

    Attributes
    ----------
    section_blur_share
        Probability that a section is blurred.
    section_blur_nm
        Standard deviation along y and x in nm.
    section_blur_seed
        Seed of which are blurred.
    """

    section_blur_share: float
    section_blur_nm: float
    section_blur_seed: int

    name: ClassVar[str] = "section_blur"
    settings: ClassVar[tuple[str, ...]] = ("section_blur_prob", "section_blur_sigma")

    @classmethod
    def draw(cls, config: AugmentationConfig, random: Random) -> Self:
        """Draw the standard deviation evenly, and a seed."""
        sigma, seed = random(2)
        nm = config.section_blur_sigma * sigma
        return cls(config.section_blur_prob, nm, int(seed * 2**53))

    def describe(self) -> str:
        """Say how many are blurred, and the standard deviation."""
        share = f"{100 * self.section_blur_share:.0f} %"
        return f"{share} of sections blurred by {self.section_blur_nm:.1f} nm"

    @classmethod
    def apply(cls, crops: "Tensor", drawn: Sequence[Self], voxel_size: Sequence[float]) -> "Tensor":
        """Return crops of which some sections are blurred, reflected at the faces."""
        _, _, depth, height, width = crops.shape
        numbers = section_numbers([one.section_blur_seed for one in drawn], depth, 1)[:, :, 0]
        sigma = np.array([one.section_blur_nm for one in drawn])
        along_y = crops.new_tensor(blur_matrices(height, sigma / voxel_size[1]))
        along_x = crops.new_tensor(blur_matrices(width, sigma / voxel_size[2]))
        blurred = crops.clone()
        for i, one in enumerate(drawn):
            chosen = np.flatnonzero(numbers[i] < one.section_blur_share).tolist()
            if chosen:
                blurred[i, 0, chosen] = along_y[i] @ crops[i, 0, chosen] @ along_x[i].mT
        return blurred

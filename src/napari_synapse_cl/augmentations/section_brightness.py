"""Brightness of each section."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

from napari_synapse_cl.augmentations.base import Random, SectionTransform, section_numbers
from napari_synapse_cl.config import AugmentationConfig

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class SectionBrightness(SectionTransform):
    """A shift of the intensities of each section, as between images that were taken one by one.

    Attributes
    ----------
    section_brightness
        The most that is added to a section, or taken from it.
    section_brightness_seed
        Seed of what is.
    """

    section_brightness: float
    section_brightness_seed: int

    name: ClassVar[str] = "section_brightness"
    settings: ClassVar[tuple[str, ...]] = ("section_brightness",)

    @classmethod
    def draw(cls, config: AugmentationConfig, random: Random) -> Self:
        """Draw the most evenly, and a seed by which each section's is drawn evenly within."""
        level, seed = random(2)
        return cls(config.section_brightness * level, int(seed * 2**53))

    def describe(self) -> str:
        """Say the most."""
        return f"brightness of sections ±{self.section_brightness:.2f}"

    @classmethod
    def apply(cls, crops: "Tensor", drawn: Sequence[Self], voxel_size: Sequence[float]) -> "Tensor":
        """Return crops whose sections are brighter or darker."""
        seeds = [one.section_brightness_seed for one in drawn]
        shifts = 2 * section_numbers(seeds, crops.shape[2], 1) - 1
        for shift, one in zip(shifts, drawn, strict=True):
            shift *= one.section_brightness
        return crops + crops.new_tensor(shifts[:, None, :, :, None])

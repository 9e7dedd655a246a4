"""What befalls single sections: out of focus, brighter or darker, lost, or slipped."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from napari_synapse_cl.augmentations.base import (
    Random,
    SectionTransform,
    reflected,
    section_numbers,
)
from napari_synapse_cl.augmentations.detail import blur_matrices
from napari_synapse_cl.config import AugmentationConfig

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class SectionBlur(SectionTransform):
    """A Gaussian blur within some sections, as of images that are out of focus."""

    section_blur_share: float
    """Probability that a section is blurred."""
    section_blur_nm: float
    """Standard deviation along y and x in nm."""
    section_blur_seed: int
    """Seed of which are blurred."""

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


@dataclass(frozen=True)
class SectionBrightness(SectionTransform):
    """A shift of the intensities of each section, as between images that were taken one by one."""

    section_brightness: float
    """The most that is added to a section, or taken from it."""
    section_brightness_seed: int
    """Seed of what is."""

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


@dataclass(frozen=True)
class LostSections(SectionTransform):
    """Some sections are black, as volumes hold those that were lost."""

    lost_share: float
    """Probability that a section is lost."""
    lost_seed: int
    """Seed of which are."""

    name: ClassVar[str] = "lost_sections"
    settings: ClassVar[tuple[str, ...]] = ("lost_section_prob",)

    @classmethod
    def draw(cls, config: AugmentationConfig, random: Random) -> Self:
        """Draw a seed."""
        (seed,) = random(1)
        return cls(config.lost_section_prob, int(seed * 2**53))

    def describe(self) -> str:
        """Say how many are lost."""
        return f"{100 * self.lost_share:.0f} % of sections lost"

    @classmethod
    def apply(cls, crops: "Tensor", drawn: Sequence[Self], voxel_size: Sequence[float]) -> "Tensor":
        """Return crops of which some sections are 0."""
        numbers = section_numbers([one.lost_seed for one in drawn], crops.shape[2], 1)
        left = [n >= one.lost_share for n, one in zip(numbers, drawn, strict=True)]
        return crops * crops.new_tensor(np.array(left)[:, None, :, :, None])


@dataclass(frozen=True)
class SlippedSections(SectionTransform):
    """Some sections lie elsewhere than their neighbours, as where an alignment has failed.

    They move by whole voxels: anything else would smooth them.
    """

    slip_share: float
    """Probability that a section slips."""
    slip_nm: float
    """The farthest along y and along x, in nm."""
    slip_seed: int
    """Seed of which slip, and how far."""

    name: ClassVar[str] = "slipped_sections"
    settings: ClassVar[tuple[str, ...]] = ("slip_prob", "slip_range")

    @classmethod
    def draw(cls, config: AugmentationConfig, random: Random) -> Self:
        """Draw a seed, by which moves are drawn evenly along y and x."""
        (seed,) = random(1)
        return cls(config.slip_prob, config.slip_range, int(seed * 2**53))

    def describe(self) -> str:
        """Say how many slip, and how far at most."""
        return f"{100 * self.slip_share:.0f} % of sections slipped by up to {self.slip_nm:.0f} nm"

    @classmethod
    def reach(cls, config: AugmentationConfig, extent: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return ``(3,)``, farther by the slip along y and x."""
        return extent + np.array([0, config.slip_range, config.slip_range])

    @classmethod
    def apply(cls, crops: "Tensor", drawn: Sequence[Self], voxel_size: Sequence[float]) -> "Tensor":
        """Return crops of which some sections are moved, reflected at the faces."""
        import torch

        _, _, depth, height, width = crops.shape
        numbers = section_numbers([one.slip_seed for one in drawn], depth, 3)
        share = np.array([one.slip_share for one in drawn])
        which, section = np.nonzero(numbers[:, :, 0] < share[:, None])
        slipped = crops.clone()
        if not len(which):
            return slipped
        nm = np.array([one.slip_nm for one in drawn])[which, None]
        moves = (2 * numbers[which, section, 1:] - 1) * nm / np.array(voxel_size[1:])
        # Towards 0, so that none is farther than the context.
        rows, columns = (
            torch.from_numpy(reflected(np.arange(n) + move[:, None], n)).to(crops.device)
            for n, move in zip((height, width), np.trunc(moves.T).astype(np.int64), strict=True)
        )
        first = torch.from_numpy((which * depth + section) * height * width).to(crops.device)
        source = first[:, None, None] + rows[:, :, None] * width + columns[:, None, :]
        slipped[which.tolist(), 0, section.tolist()] = crops.take(source)
        return slipped

"""Cutouts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

from napari_synapse_cl.augmentations.base import IntensityTransform, Random
from napari_synapse_cl.config import AugmentationConfig

if TYPE_CHECKING:
    from torch import Tensor

PERIPHERY = "periphery"


@dataclass(frozen=True)
class Cutout(IntensityTransform):
    """A part of the view becomes as grey as the view is on average; the centre is always left."""

    cutout_kind: str
    """"cuboid" anywhere on one side of the centre, "corner", "periphery" for all but a box around
    the centre, or "" for none."""
    cutout_box: tuple[float, ...]
    """Where the box begins along z, y, x, then where it ends, as shares of the view."""

    name: ClassVar[str] = "cutout"
    settings: ClassVar[tuple[str, ...]] = ("cutout_prob", "cutout_size", "cutout_kinds")

    @classmethod
    def draw(cls, config: AugmentationConfig, random: Random) -> Self:
        """Draw whether, what, how large and where."""
        occurs, which, side, axis, *rest = random(10)
        if occurs >= config.cutout_prob:
            return cls("", (0.0,) * 6)
        kind = config.cutout_kinds[int(which * len(config.cutout_kinds))]
        shares = [config.cutout_size * (1 + one) / 2 for one in rest[:3]]
        if kind == PERIPHERY:
            # What is left, which holds the centre wherever it lies.
            shares = [1 - one for one in shares]
        begins = [place * (1 - share) for place, share in zip(rest[3:], shares, strict=True)]
        if kind == "corner":
            begins = [(int(8 * side) >> i & 1) * (1 - share) for i, share in enumerate(shares)]
        elif kind == "cuboid":
            # Beside the centre along one axis, and anywhere along the others.
            i = int(3 * axis)
            begin = rest[3 + i] * (0.5 - shares[i])
            begins[i] = begin if side < 0.5 else 1 - begin - shares[i]
        ends = (begin + share for begin, share in zip(begins, shares, strict=True))
        return cls(kind, (*begins, *ends))

    def describe(self) -> str:
        """Say what is cut out, and how large it is."""
        if not self.cutout_kind:
            return "nothing cut out"
        sides = zip(self.cutout_box[:3], self.cutout_box[3:], strict=True)
        size = " × ".join(f"{100 * (end - begin):.0f}" for begin, end in sides)
        what = "all but" if self.cutout_kind == PERIPHERY else f"a {self.cutout_kind} of"
        return f"{what} {size} % of the sides cut out"

    @classmethod
    def apply(cls, views: "Tensor", drawn: Sequence[Self]) -> "Tensor":
        """Return views with what was cut out."""
        means = views.mean(dim=(2, 3, 4))
        for view, mean, one in zip(views, means, drawn, strict=True):
            if not one.cutout_kind:
                continue
            bounds = [
                round(share * n)
                for share, n in zip(one.cutout_box, 2 * tuple(view.shape[1:]), strict=True)
            ]
            z, y, x = (slice(*ends) for ends in zip(bounds[:3], bounds[3:], strict=True))
            if one.cutout_kind == PERIPHERY:
                left = view[:, z, y, x].clone()
                view[:] = mean
                view[:, z, y, x] = left
            else:
                view[:, z, y, x] = mean
        return views

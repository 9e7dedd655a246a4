"""What of a crop the network is to see, in words: "everything", "cleft+presynapse", "12+15"."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from napari_synapse_cl.errors import InputError

EVERYTHING = "everything"
PRESYNAPSE = "presynapse"
POSTSYNAPSE = "postsynapse"
CLEFT = "cleft"
VESICLES = "vesicles"
MITOCHONDRIA = "mitochondria"
OBJECT = "object"
"""What lies under the synapse's own position."""
PARTS = (EVERYTHING, PRESYNAPSE, POSTSYNAPSE, CLEFT, VESICLES, MITOCHONDRIA, OBJECT)

BOTH_SIDES = "sides"
SIDES = ("side_1", "side_2")
"""Positions in the two cells of a synapse where it is not known which is the presynaptic one."""

# The segmentation types 0 to 10 of github.com/alim98/SynapseClusterEM, in their order. Its types 4
# and 9 keep the same, the one with a second cleft label, which is a value more of the role here.
PRESETS: dict[str, tuple[str, ...]] = {
    EVERYTHING: (EVERYTHING,),
    PRESYNAPSE: (PRESYNAPSE,),
    POSTSYNAPSE: (POSTSYNAPSE,),
    BOTH_SIDES: (PRESYNAPSE, POSTSYNAPSE),
    "vesicles+cleft": (VESICLES, CLEFT),
    "vesicles+cleft+sides": (VESICLES, CLEFT, PRESYNAPSE, POSTSYNAPSE),
    VESICLES: (VESICLES,),
    CLEFT: (CLEFT,),
    MITOCHONDRIA: (MITOCHONDRIA,),
    "cleft+presynapse": (CLEFT, PRESYNAPSE),
}


@dataclass(frozen=True)
class Recipe:
    """What of a crop is kept."""

    parts: tuple[str, ...]
    """Each of these is kept: names of `PARTS` and of `roles`, and values of the label volume."""
    roles: Mapping[str, tuple[int, ...]]
    """Values of the label volume by the name of the structure."""
    nearest: bool
    """Of each part that is taken from the label volume keep the connected component nearest the
    synapse alone."""
    grow_nm: float
    """How far around all this is kept too, in nm."""

    @classmethod
    def parse(
        cls, keep: str, roles: Mapping[str, Sequence[int]], nearest: bool, grow_nm: float
    ) -> Self:
        """Read what is to be kept.

        Parameters
        ----------
        keep
            A name of `PRESETS`, or parts joined by +.
        roles, nearest, grow_nm
            As the attributes.

        Raises
        ------
        InputError
            If there is no such part, or it is not known which label values it has.
        """
        values = {role.lower(): tuple(labels) for role, labels in roles.items() if len(labels)}
        parts: dict[str, None] = {}
        for word in keep.split("+"):
            name = word.strip().lower()
            parts |= dict.fromkeys(PRESETS.get(name, (name,)))
        recipe = cls(tuple(parts), values, nearest, grow_nm)
        for part in parts:
            recipe._check_part(part)
        return recipe

    @property
    def keeps_everything(self) -> bool:
        """Whether nothing is masked."""
        return EVERYTHING in self.parts

    @property
    def needs_labels(self) -> bool:
        """Whether a part is taken from the label volume of structures."""
        return not self.keeps_everything and any(map(self.values_of, self.parts))

    @property
    def needs_segmentation(self) -> bool:
        """Whether a part is taken from the label volume of cells."""
        return not self.keeps_everything and bool(self.cells)

    @property
    def needs_either(self) -> bool:
        """Whether a part is taken from whichever of the two there is."""
        return not self.keeps_everything and OBJECT in self.parts

    @property
    def cells(self) -> tuple[str, ...]:
        """The parts that are cells of the segmentation."""
        names = (PRESYNAPSE, POSTSYNAPSE)
        return tuple(part for part in names if part in self.parts and part not in self.roles)

    def values_of(self, part: str) -> tuple[int, ...]:
        """Return the values of the label volume that are a part, none if it is not taken there."""
        return (int(part),) if part.isdecimal() else self.roles.get(part, ())

    def needs_vesicles(self, partners: Collection[str]) -> bool:
        """Whether vesicles have to tell which of two cells is the presynaptic one.

        Parameters
        ----------
        partners
            Names of the positions that there are for each synapse.
        """
        # With both cells kept it does not matter which is which.
        return not self.keeps_everything and sum(part not in partners for part in self.cells) == 1

    def check_volumes(self, name: str, has_labels: bool, has_segmentation: bool) -> None:
        """Check that a volume has the label volumes that are needed.

        Raises
        ------
        InputError
            If one is missing.
        """
        missing = None
        if self.needs_labels and not has_labels:
            missing = "a label volume of structures (labels)"
        elif self.needs_segmentation and not has_segmentation:
            missing = "a label volume of cells (segmentation)"
        elif self.needs_either and not (has_labels or has_segmentation):
            missing = "a label volume (labels or segmentation)"
        if missing is not None:
            raise InputError(f"to keep {self} of {name}, {missing} is needed")

    def check_partners(self, partners: Collection[str], has_labels: bool) -> None:
        """Check that there are positions in the cells that are kept.

        Parameters
        ----------
        partners
            Names of the positions that there are for each synapse: "presynapse", "postsynapse",
            "side_1" and "side_2".
        has_labels
            Whether there is a label volume of structures.

        Raises
        ------
        InputError
            If one is missing, or it cannot be told which side is the presynaptic one.
        """
        if self.keeps_everything:
            return
        unknown = [part for part in self.cells if part not in partners]
        if unknown and not set(SIDES) <= set(partners):
            raise InputError(
                f"to keep {self}, the synapses need positions in the {unknown[0]}, or in both "
                f"cells ({' and '.join(SIDES)})"
            )
        if self.needs_vesicles(partners):
            self.check_vesicles(has_labels)

    def check_vesicles(self, has_labels: bool) -> None:
        """Check that vesicles can tell which of two cells is the presynaptic one.

        Raises
        ------
        InputError
            If there is no label volume of structures, or it is not known which of its values are
            vesicles.
        """
        if not (has_labels and VESICLES in self.roles):
            raise InputError(
                f"vesicles must tell which of {' and '.join(SIDES)} is the presynaptic one: give a "
                "label volume of structures, and say which of its values are vesicles, as in "
                "roles vesicles=6"
            )

    def __str__(self) -> str:
        return "+".join(self.parts)

    def _check_part(self, part: str) -> None:
        values = self.values_of(part)
        if 0 in values:
            raise InputError("the label value 0 is the background, which cannot be kept")
        if values or part in (EVERYTHING, PRESYNAPSE, POSTSYNAPSE, OBJECT):
            return
        if part in PARTS:
            raise InputError(
                f"to keep {part}, say which values of the label volume they are, as in "
                f"roles {part}=6"
            )
        names = ", ".join(dict.fromkeys((*PARTS, BOTH_SIDES, *self.roles)))
        raise InputError(
            f'there is no part "{part}" to keep: there are {names}, and values of the label '
            "volume, joined by + as in vesicles+cleft or 12+15"
        )

"""Units of length, as layers have them."""

from typing import Any

import pint


def in_nanometres(unit: Any) -> float | None:
    """Return the length of a unit in nm, or None if it is not one of length.

    Parameters
    ----------
    unit
        A unit of pint, or its name.
    """
    try:
        quantity = pint.get_application_registry().Quantity(1, str(unit))
        return float(quantity.to("nm").magnitude)
    except pint.DimensionalityError:
        return None

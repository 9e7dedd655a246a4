"""Texts that are typed into fields, as settings take them."""

import re
from typing import Any, get_args


def typed_values(text: str, *, fractions: bool) -> list[str]:
    """Return the values in a text, between which stand blanks or commas: "8, 8, 4" and "8,8,4".

    Parameters
    ----------
    fractions
        Whether they may have decimals: then the comma in "8,5" is the decimal mark.
    """
    words = text.replace(";", " ").split()
    if fractions:
        words = [re.sub(r"^([+-]?\d*),(\d+(?:e[+-]?\d+)?),?$", r"\1.\2", word) for word in words]
    return " ".join(words).replace(",", " ").split()


def holds(annotation: Any, kind: type) -> bool:
    """Whether values of a type are in a setting of an annotation, or parts of them."""
    return annotation is kind or any(holds(part, kind) for part in get_args(annotation))


def typed_roles(text: str) -> list[str]:
    """Return roles as the setting takes them, however they were spaced: "cleft=7, vesicles=6, 8".

    What is no role is left as it is, for the setting to complain of.
    """
    parts = re.split(r"[\s,;]+(?=\w+=)", re.sub(r"\s*=\s*", "=", text.strip()))
    return [re.sub(r"[\s,;]+", ",", part.strip(" ,;")) for part in parts if part.strip(" ,;")]

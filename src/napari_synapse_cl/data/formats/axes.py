"""Which axes of an array are z, y and x."""

from collections.abc import Sequence

from napari_synapse_cl.errors import InputError


def spatial_axes(
    shape: Sequence[int], names: Sequence[str | None] | None, volume: str
) -> tuple[int, int, int]:
    """Return the axes of an array that are z, y, x.

    Those that are named so; else the three that are longer than 1, or the last three.

    Parameters
    ----------
    shape
        Size of the array.
    names
        Of its axes, where they are known.
    volume
        How to call the array in messages.

    Raises
    ------
    InputError
        If it has fewer axes, or others that are longer than 1.
    """
    known = [str(name or "").lower() for name in names or ()]
    known = known if len(known) == len(shape) else [""] * len(shape)
    if all(known.count(name) == 1 for name in "zyx"):
        z, y, x = (known.index(name) for name in "zyx")
    else:
        long = [axis for axis, n in enumerate(shape) if n != 1]
        axes = long if len(long) == 3 else list(range(len(shape)))[-3:]
        if len(axes) < 3:
            raise InputError(
                f"{volume} has the shape {_size(shape, known)}; "
                "a 3D volume of grey values along z, y, x is needed"
            )
        z, y, x = axes
    if any(n != 1 for axis, n in enumerate(shape) if axis not in (z, y, x)):
        raise InputError(
            f"{volume} has the shape {_size(shape, known)}; a 3D volume along z, y, x, of one "
            "channel and one time, is needed: save the one to use on its own"
        )
    return (z, y, x)


def _size(shape: Sequence[int], names: Sequence[str]) -> str:
    size = " × ".join(str(n) for n in shape)
    return f"{size} ({', '.join(names)})" if all(names) and names else size

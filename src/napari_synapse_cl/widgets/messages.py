"""Tell people in sentences."""

from napari.utils.notifications import show_error


def tell(error: Exception) -> None:
    """Show an error as napari's notification, without a traceback."""
    show_error(sentence(str(error)))


def sentence(text: str) -> str:
    """Return a clause as a sentence."""
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?", "…")) else ".")

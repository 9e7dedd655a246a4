"""How our part of the window looks and speaks: colours, sentences, docks, napari's animation."""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from napari.utils.notifications import show_error
from napari.utils.theme import get_theme
from npe2 import PluginManager
from qtpy.QtCore import Qt
from qtpy.QtGui import QColor, QMovie, QPaintEvent
from qtpy.QtWidgets import (
    QComboBox,
    QDockWidget,
    QLabel,
    QMainWindow,
    QMessageBox,
    QPushButton,
    QStyle,
    QStyleOptionComboBox,
    QStylePainter,
    QWidget,
)

from napari_synapse_cl.config import Config
from napari_synapse_cl.errors import InputError, JobError
from napari_synapse_cl.widgets.layouts import Paragraph

MARK = "⚠ "
"""Stands before what cannot be used, and before warnings."""
MARK_COLOR = "#000000; background-color: #e69f00"
"""Of what cannot be used, with what is behind it: no colour is read well on light and on dark."""
COLORS = {
    "orange": ("#a84600", "#e69f00"),
    "blue": ("#00659e", "#56b4e9"),
    "green": ("#00715a", "#35c49a"),
    "purple": ("#9c3f75", "#e29cc6"),
    "grey": ("#656565", "#a0a0a0"),
}
"""Colours for light and for dark themes that are told apart by colour-blind people too; each has a
contrast of 4.5 to 1 at least to the theme's background."""

PLUGIN = "napari-synapse-cl"
OPEN, TRAIN, PREVIEW, EXTRACT, EXPLORE, RUNS = (
    "Open data",
    "Train contrastive",
    "Augmentation preview",
    "Extract features",
    "Explore features",
    "Runs",
)
TITLES = {PREVIEW: "Preview"}
"""What stands above a dock whose name is too long for a small window with a large font."""
BUTTONS = {"resume": "Continue"}
"""What is a flag of the command line and a button in the window."""
LONG_WORD = 20
"""Letters of a word that may not fit in a line."""
CALM, NORMAL = 10, 100
"""Speed in percent."""
TURN = 6
"""How many pictures of the animation are passed over at once when it is turned by hand."""
HINT = 0.9
"""How much of the text's colour there is in that of what stands in empty fields."""
LABEL_WIDTH = 118
"""One width for all labels, so that the fields of several forms stand in line, in pixels."""


class Colors:
    """Colours of the theme that a viewer has now."""

    def __init__(self, viewer: Any) -> None:
        theme = get_theme(viewer.theme)
        self.background = QColor(*theme.background.as_rgb_tuple())
        self.foreground = QColor(*theme.foreground.as_rgb_tuple())
        self.text = QColor(*theme.text.as_rgb_tuple())
        self.fields = QColor(*theme.primary.as_rgb_tuple())
        self._of_dark = theme.type != "light"

    def named(self, name: str, opacity: float = 1.0) -> QColor:
        """Return one of :data:`COLORS` as it is told from the theme's background.

        Parameters
        ----------
        name
            Its name, or "text" for that of the theme.
        opacity
            From 0 to 1.
        """
        color = QColor(self.text) if name == "text" else QColor(COLORS[name][self._of_dark])
        color.setAlphaF(opacity)
        return color


def style_of_fields(viewer: Any) -> str:
    """Return a style sheet in which what stands in empty fields can be read in any theme.

    Qt draws it half transparent, which leaves a contrast of 3 to 1.
    """
    colors = Colors(viewer)
    pairs = zip(colors.text.getRgb()[:3], colors.fields.getRgb()[:3], strict=True)
    mixed = (round(HINT * text + (1 - HINT) * field) for text, field in pairs)
    return f"QLineEdit {{ placeholder-text-color: {QColor(*mixed).name()}; }}"


def tell(error: Exception) -> None:
    """Show an error as napari's notification, without a traceback."""
    show_error(sentence(str(error)))


@contextmanager
def telling() -> Iterator[None]:
    """Show an error of what was given, or of the job, in the block as a notification."""
    try:
        yield
    except (InputError, JobError) as error:
        tell(error)


def expected(error: Exception) -> Exception:
    """Return an error of what was given, or of the job; napari shows others with their traceback.

    Raises
    ------
    Exception
        Any other error.
    """
    if not isinstance(error, InputError | JobError):
        raise error
    return error


def breakable(text: str) -> str:
    """Return a text whose long words, as names of files are, can go on in a further line."""
    long_word = rf"\S{{{LONG_WORD},}}"
    return re.sub(long_word, lambda word: re.sub(r"(?<=[\W_])", "\u200b", word[0]), text)


def link(target: str, text: str) -> str:
    """Return rich text that can be clicked, in colours that are read on light and on dark."""
    return f"<a href='{target}' style='color:{MARK_COLOR}'>{text}</a>"


def button(text: str, tip: str = "", clicked: Callable[..., Any] | None = None) -> QPushButton:
    """Return a button with what it says under the mouse, and does when it is clicked."""
    made = QPushButton(text)
    made.setToolTip(tip)
    if clicked is not None:
        made.clicked.connect(clicked)
    return made


class ChoiceBox(QComboBox):
    """A choice that may be narrower than its texts, which then end in "…".

    Parameters
    ----------
    n_letters
        How many are seen at least.
    """

    def __init__(self, n_letters: int = 8) -> None:
        super().__init__()
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(n_letters)

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802 - Qt's name
        """Draw it with as much of its text as there is room for."""
        option, painter = QStyleOptionComboBox(), QStylePainter(self)
        self.initStyleOption(option)
        painter.drawComplexControl(QStyle.ComplexControl.CC_ComboBox, option)
        part = QStyle.SubControl.SC_ComboBoxEditField
        room = self.style().subControlRect(QStyle.ComplexControl.CC_ComboBox, option, part, self)
        width = room.width() - (option.iconSize.width() if not option.currentIcon.isNull() else 0)
        text = self.placeholderText() if self.currentIndex() < 0 else option.currentText
        elide = self.fontMetrics().elidedText
        option.currentText = elide(text, Qt.TextElideMode.ElideRight, width)
        painter.drawControl(QStyle.ControlElement.CE_ComboBoxLabel, option)


def paragraph(text: str = "", *, selectable: bool = False) -> QLabel:
    """Return a text that is as long as it must be, of which parts may be copied."""
    label = Paragraph(text)
    if selectable:
        label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    return label


def ask(
    parent: QWidget,
    title: str,
    question: str,
    details: str,
    answers: Mapping[str, QMessageBox.ButtonRole],
    default: str | None = None,
) -> str | None:
    """Return which of some answers a person chooses, None for Cancel.

    Parameters
    ----------
    title, question, details
        What stands above the question, the question, and what it is about.
    answers
        What stands on the buttons beside Cancel, with their roles.
    default
        The answer that Return gives; without one that is Cancel.
    """
    box = QMessageBox(QMessageBox.Icon.Question, title, question, parent=parent)
    box.setInformativeText(details)
    buttons = {name: box.addButton(name, role) for name, role in answers.items()}
    cancel = box.addButton(QMessageBox.StandardButton.Cancel)
    box.setDefaultButton(cancel if default is None else buttons[default])
    box.setEscapeButton(cancel)
    box.exec()
    clicked = box.clickedButton()
    box.deleteLater()
    return next((name for name, button in buttons.items() if button is clicked), None)


def label_of(name: str) -> str:
    """Return the name of a setting as people read it: "Learning rate"."""
    if title := Config.model_fields[name].title:
        return title
    text = " ".join(word for word in name.split("_") if word != "num")
    return text[0].upper() + text[1:]


def in_words(text: str) -> str:
    """Return a message with labels of fields in the place of flags and names of settings.

    Names that are words are left as they are, unless they stand as a flag; so are those in paths.
    """

    def label(found: re.Match[str]) -> str:
        flag, name = found[1], found[2]
        if name not in Config.model_fields or not (flag or "_" in name or name == "fmaps"):
            return found[0]
        return f"“{BUTTONS.get(name) or label_of(name)}”"

    return re.sub(r"(?<![\w/\\.=-])(--)?([a-z][a-z_]*)(?![\w/\\.=-]*[/\\=]|\.\w)", label, text)


def sentence(text: str) -> str:
    """Return a clause as a sentence; the name of a file that it begins with stays."""
    text = in_words(text)
    first = text.partition(" ")[0].rstrip(",:;").replace("-", "")
    beginning = text[:1].upper() if first.isalpha() else text[:1]
    return beginning + text[1:] + ("" if text.endswith((".", "!", "?", "…")) else ".")


def open_dock(viewer: Any, name: str) -> Any:
    """Open a widget of this plugin, or bring it to the front if it is open, and return it.

    However it was opened, from the menu or by a script, there is no second one beside it.

    Parameters
    ----------
    name
        Its name in the menu.
    """
    for widget in viewer.window.dock_widgets.values():
        if getattr(widget, "menu_name", None) == name:
            dock = dock_of(widget)
            dock.show()
            dock.raise_()
            return widget
    manifest = PluginManager.instance().get_manifest(PLUGIN)
    [found] = [w for w in manifest.contributions.widgets or () if w.display_name == name]
    widget = found.get_callable()(viewer)
    # As the menu calls it, which then hides and shows this one.
    viewer.window.add_dock_widget(widget, name=f"{name} ({manifest.display_name})", tabify=True)
    return widget


def dock_of(widget: QWidget) -> Any:
    """Return the dock that a widget is in, None if it is in none."""
    return _around(widget, QDockWidget)


def set_title(dock: QDockWidget, name: str) -> None:
    """Set what stands on the tab of a dock of napari's and above it."""
    title = TITLES.get(name, name)
    dock.setWindowTitle(title)
    for label in dock.titleBarWidget().findChildren(QLabel):
        label.setText(title)


def main_window_of(widget: QWidget) -> QMainWindow | None:
    """Return napari's window that a widget is docked in, also if its dock floats."""
    return _around(widget, QMainWindow)


def _around(widget: QWidget, kind: type[QWidget]) -> Any:
    parent = widget.parentWidget()
    while parent is not None and not isinstance(parent, kind):
        parent = parent.parentWidget()
    return parent


def set_spinner_speed(widget: QWidget, percent: int) -> None:
    """Set the speed of the animation beside "activity".

    Each of its pictures has the whole window composed anew. At its own speed that takes a quarter
    of a processor's core where no graphics card does it, for as long as the training lasts.

    Parameters
    ----------
    widget
        A widget docked in napari's window.
    percent
        Of its own speed; at 0 it stands still.
    """
    for movie in _spinners(widget):
        movie.setSpeed(percent)


def turn_spinner(widget: QWidget) -> None:
    """Turn the animation beside "activity" on by hand, with something else that is drawn now.

    Parameters
    ----------
    widget
        A widget docked in napari's window.
    """
    for movie in _spinners(widget):
        movie.setSpeed(0)
        for _ in range(TURN):
            movie.jumpToNextFrame()


def _spinners(widget: QWidget) -> list[QMovie]:
    window = main_window_of(widget)
    labels = [] if window is None else window.statusBar().findChildren(QLabel)
    return [label.movie() for label in labels if label.movie() is not None]

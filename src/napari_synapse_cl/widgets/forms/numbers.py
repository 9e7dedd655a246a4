"""Numbers to type and to drag: boxes and sliders."""

from typing import Any

from qtpy.QtCore import QEvent, QLocale, QObject, QSignalBlocker, Qt, Signal
from qtpy.QtGui import QDoubleValidator
from qtpy.QtWidgets import QDoubleSpinBox, QHBoxLayout, QLineEdit, QWidget
from superqt import QDoubleSlider

from napari_synapse_cl.widgets.layouts import bare

SUFFIXES = {"degrees": " °"}
"""Units that are written otherwise than they are called."""
LONG_NUMBER, BOX_BUTTONS = "0.50 voxels", 64
"""What there is room for in a box of numbers, and that of the buttons around it, in pixels."""
SLIDER_WIDTH = 40
"""At least, in pixels."""
MOST_DECIMALS = 6


class DecimalBox(QDoubleSpinBox):
    """A number to type, with a point or a comma for the decimal mark; digits are not grouped.

    A box of Qt's own drops one of the two without a word, by the language of the machine: 0,5
    becomes 5.

    Parameters
    ----------
    lowest, highest
        Bounds of the number.
    exponent
        Of the power of ten that is one step.
    decimals
        Least number of decimals that are shown.
    unit
        Name of its unit, shown behind the number; empty for a plain number.
    """

    def __init__(
        self, lowest: float, highest: float, exponent: int, unit: str, decimals: int
    ) -> None:
        super().__init__()
        self.least_decimals = decimals
        plain = QLocale.c()
        plain.setNumberOptions(QLocale.NumberOption.OmitGroupSeparator)
        self.setLocale(plain)
        # With fewer Qt drops the mark that is typed, where there are none: 12.5 becomes 125.
        self.setDecimals(MOST_DECIMALS)
        self.setRange(lowest, highest)
        self.setSingleStep(10.0**exponent)
        self.setSuffix(SUFFIXES.get(unit, f" {unit}" if unit else ""))

    def textFromValue(self, value: float) -> str:  # noqa: N802 - Qt's name
        """Return a number with all its decimals: one may be typed, or come from elsewhere."""
        whole, _, fraction = f"{value:.{MOST_DECIMALS}f}".partition(".")
        fraction = fraction.rstrip("0").ljust(self.least_decimals, "0")
        return f"{whole}.{fraction}" if fraction else whole

    def validate(self, text: str, position: int) -> Any:
        """Return what Qt says of the text, which has a point in place of a comma now."""
        return super().validate(text.replace(",", "."), position)


class EitherMark(QDoubleValidator):
    """Takes numbers as 1e-4, with a point or a comma for the decimal mark."""

    def __init__(self, field: QLineEdit) -> None:
        super().__init__(field)
        self.setNotation(QDoubleValidator.Notation.ScientificNotation)
        self.setLocale(QLocale.c())

    def validate(self, text: str, position: int) -> Any:
        """Return what Qt says of the text, which has a point in place of a comma now."""
        return super().validate(text.replace(",", "."), position)


class NumberEditor(QWidget):
    """A number to type, and to drag if it has a slider; to a form it looks like a magicgui widget.

    Parameters
    ----------
    value
        What it shows first.
    box
        What it is typed into.
    reach
        Where the slider ends; None for no slider.

    Attributes
    ----------
    native
        The Qt widget.
    slider, box
        Its parts.
    """

    changed = Signal(float)
    """Emitted with another value."""

    def __init__(self, value: float, box: DecimalBox, reach: float | None = None) -> None:
        super().__init__()
        self.native, self.box = self, box
        self.slider = QDoubleSlider(Qt.Orientation.Horizontal)
        if reach is None:
            self.slider.hide()
        else:
            self.slider.setRange(box.minimum(), reach)
            self.slider.setSingleStep(box.singleStep())
            self.slider.setPageStep(10 * box.singleStep())
            box.setKeyboardTracking(False)
            self.slider.setMinimumWidth(SLIDER_WIDTH)
        RoomForNumber(box, fixed=reach is not None)
        for part in (self.slider, self.box):
            part.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
            part.installEventFilter(self)
        layout = bare(QHBoxLayout(self))
        layout.addWidget(self.slider, stretch=1)
        layout.addWidget(self.box, stretch=reach is None)
        self.setFocusProxy(self.box)
        self.value = value
        self.slider.valueChanged.connect(self._on_drag)
        self.box.valueChanged.connect(self._on_value)

    @property
    def value(self) -> float:
        """The number."""
        return float(self.box.value())

    @value.setter
    def value(self, value: float) -> None:
        self.box.setValue(float(value))
        self._show_on_slider()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802 - Qt's name
        """Let the wheel scroll the form unless the person works on this number."""
        if event.type() == QEvent.Type.Wheel and not watched.hasFocus():
            event.ignore()
            return True
        return super().eventFilter(watched, event)

    def _on_drag(self, value: float) -> None:
        self.box.setValue(round(value, self.box.least_decimals))

    def _on_value(self, value: float) -> None:
        self._show_on_slider()
        self.changed.emit(value)

    def _show_on_slider(self) -> None:
        if self.slider.isSliderDown():
            return
        with QSignalBlocker(self.slider):
            self.slider.setValue(min(self.value, self.slider.maximum()))


class RoomForNumber(QObject):
    """Keeps a box of numbers wide enough for what is in it, in every font.

    Parameters
    ----------
    fixed
        Whether it gets no wider either.
    """

    def __init__(self, box: QWidget, *, fixed: bool = False) -> None:
        super().__init__(box)
        self._box, self._fixed = box, fixed
        box.installEventFilter(self)
        self._make_room()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802 - Qt's name
        """Notice another font."""
        if event.type() == QEvent.Type.FontChange:
            self._make_room()
        return False

    def _make_room(self) -> None:
        text = self._box.fontMetrics().horizontalAdvance(LONG_NUMBER)
        if self._fixed:
            self._box.setFixedWidth(text + BOX_BUTTONS)
        else:
            self._box.setMinimumWidth(text + BOX_BUTTONS)

"""Numbers to type, with a point or a comma for the decimal mark, and to drag."""

import math
from typing import Any

from qtpy.QtCore import QEvent, QLocale, QObject, QSignalBlocker, Qt, Signal
from qtpy.QtGui import QDoubleValidator
from qtpy.QtWidgets import QDoubleSpinBox, QHBoxLayout, QLineEdit, QWidget
from superqt import QDoubleSlider

from napari_synapse_cl.widgets.look import bare

SUFFIXES = {"degrees": " °"}
"""Units that are written otherwise than they are called."""
BOX_WIDTH = 124
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
        plain = QLocale.c()
        plain.setNumberOptions(QLocale.NumberOption.OmitGroupSeparator)
        self.setLocale(plain)
        self._decimals = decimals
        self.setRange(lowest, highest)
        self.setSingleStep(10.0**exponent)
        self.setSuffix(SUFFIXES.get(unit, f" {unit}" if unit else ""))

    def show_number(self, value: float) -> None:
        """Show a number with all its decimals: a setting may come from elsewhere."""
        fraction = f"{value:.{MOST_DECIMALS}f}".rstrip("0").partition(".")[2]
        self.setDecimals(max(self._decimals, len(fraction)))
        self.setValue(float(value))

    def validate(self, text: str, position: int) -> Any:
        """Return what Qt says of the text, which has a point in place of a comma now."""
        return super().validate(text.replace(",", "."), position)


class NumberEditor:
    """A number to type; to a form it looks like a magicgui widget.

    Attributes
    ----------
    native
        The Qt widget.
    changed
        Signal, emitted with another value.
    """

    def __init__(self, value: float, box: DecimalBox) -> None:
        self.native = box
        self.changed = box.valueChanged
        self.value = value

    @property
    def value(self) -> float:
        """The number."""
        return float(self.native.value())

    @value.setter
    def value(self, value: float) -> None:
        self.native.show_number(value)


class EitherMark(QDoubleValidator):
    """Takes numbers as 1e-4, with a point or a comma for the decimal mark."""

    def __init__(self, field: QLineEdit) -> None:
        super().__init__(field)
        self.setNotation(QDoubleValidator.Notation.ScientificNotation)
        self.setLocale(QLocale.c())

    def validate(self, text: str, position: int) -> Any:
        """Return what Qt says of the text, which has a point in place of a comma now."""
        return super().validate(text.replace(",", "."), position)


class SliderEditor(QWidget):
    """A number to drag or to type; it looks like a magicgui widget to a form.

    Parameters
    ----------
    value
        What it shows first.
    lowest, highest
        Bounds of the value.
    unit
        Name of its unit, shown behind the number; empty for a plain number.
    reach
        Where the slider ends, if not at `highest`.

    Attributes
    ----------
    native
        The Qt widget.
    min, max
        Bounds of the value.
    slider, box
        Its parts.
    """

    changed = Signal(float)
    """Emitted with another value."""

    def __init__(
        self,
        value: float,
        lowest: float,
        highest: float,
        unit: str = "",
        reach: float | None = None,
    ) -> None:
        super().__init__()
        self.native = self
        self.min, self.max = lowest, highest
        end = highest if reach is None else reach
        exponent = round(math.log10((end - lowest) / 100))
        self.slider = QDoubleSlider(Qt.Orientation.Horizontal)
        self.slider.setRange(lowest, end)
        self.slider.setSingleStep(10.0**exponent)
        self.slider.setPageStep(10.0 ** (exponent + 1))
        self._decimals = max(1, -exponent)
        self.box = DecimalBox(lowest, highest, exponent, unit, self._decimals)
        self.box.setKeyboardTracking(False)
        self.box.setFixedWidth(BOX_WIDTH)
        for part in (self.slider, self.box):
            part.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
            part.installEventFilter(self)
        layout = bare(QHBoxLayout(self))
        layout.addWidget(self.slider, stretch=1)
        layout.addWidget(self.box)
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
        self.box.show_number(value)
        self._show_on_slider()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802 - Qt's name
        """Let the wheel scroll the form unless the person works on this number."""
        if event.type() == QEvent.Type.Wheel and not watched.hasFocus():
            event.ignore()
            return True
        return super().eventFilter(watched, event)

    def _on_drag(self, value: float) -> None:
        self.box.setValue(round(value, self._decimals))

    def _on_value(self, value: float) -> None:
        self._show_on_slider()
        self.changed.emit(value)

    def _show_on_slider(self) -> None:
        if self.slider.isSliderDown():
            return
        with QSignalBlocker(self.slider):
            self.slider.setValue(min(self.value, self.slider.maximum()))

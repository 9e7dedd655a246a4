"""A slider beside a box that takes the exact number."""

import math

from qtpy.QtCore import QEvent, QObject, QSignalBlocker, Qt, Signal
from qtpy.QtWidgets import QDoubleSpinBox, QHBoxLayout, QWidget
from superqt import QDoubleSlider

REACH = {
    "rotation_range": 90.0,
    "noise_level": 0.25,
    "contrast_range": 0.9,
    "brightness_range": 0.5,
    "gaussian_blur_sigma": 3.0,
    "keep_margin": 200.0,
}
"""How far the sliders of some settings go; the box takes what the setting allows."""
SUFFIXES = {"degrees": " °"}
"""Units that are written otherwise than they are called."""
BOX_WIDTH = 124
MOST_DECIMALS = 6


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
    changed
        Emitted with another value.
    native
        The Qt widget.
    min, max
        Bounds of the value.
    slider, box
        Its parts.
    """

    changed = Signal(float)

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
        self.box = QDoubleSpinBox()
        self._decimals = max(1, -exponent)
        self.box.setRange(lowest, highest)
        self.box.setSingleStep(10.0**exponent)
        self.box.setSuffix(SUFFIXES.get(unit, f" {unit}" if unit else ""))
        self.box.setKeyboardTracking(False)
        self.box.setFixedWidth(BOX_WIDTH)
        for part in (self.slider, self.box):
            part.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
            part.installEventFilter(self)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
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
        # A box rounds to the decimals it shows, and a setting may come from elsewhere.
        fraction = f"{value:.{MOST_DECIMALS}f}".rstrip("0").partition(".")[2]
        self.box.setDecimals(max(self._decimals, len(fraction)))
        self.box.setValue(float(value))
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

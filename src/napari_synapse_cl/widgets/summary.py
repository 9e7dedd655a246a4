"""What a training will be, said before it is started."""

import html
import json
import tempfile
from pathlib import Path
from typing import Any

from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QLabel

from napari_synapse_cl.config import Config
from napari_synapse_cl.errors import InputError, JobError
from napari_synapse_cl.estimates import MEASURED_FOR, Machine, in_words, plan
from napari_synapse_cl.files import write_json
from napari_synapse_cl.widgets.ask import Question
from napari_synapse_cl.widgets.latest import Latest
from napari_synapse_cl.widgets.layers import LayerData
from napari_synapse_cl.widgets.messages import sentence
from napari_synapse_cl.widgets.theme import MARK, MARK_COLOR

PROBE_DELAY_MS = 800
"""How long the settings must rest before the machine is measured for them."""


class Summary(QLabel):
    """The plan of a training in words, with warnings; it follows what it is shown.

    Device, memory and time are measured in a process of their own, which takes seconds; until then
    the rest is said.
    """

    def __init__(self) -> None:
        super().__init__()
        self.setWordWrap(True)
        self.setAlignment(Qt.AlignmentFlag.AlignTop)
        self.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.setToolTip(
            "<qt>What a training with these layers and settings will be. Memory and time are "
            "estimates from a short measurement on this machine.</qt>"
        )
        self._shown: tuple[LayerData, Config] | None = None
        self._machines: dict[str, Machine | str] = {}
        self._question = Question("napari_synapse_cl.machine")
        self._probes = Latest(self._probe)
        self._probes.done.connect(self._on_machine)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(PROBE_DELAY_MS)
        self._timer.timeout.connect(self._measure)

    def show_plan(self, data: LayerData, config: Config, *, measure: bool = True) -> None:
        """Say what a training with these layers and settings will be.

        Parameters
        ----------
        data
            The layers.
        config
            The settings.
        measure
            Whether the machine may be measured: not while it is at work.
        """
        self._shown = (data, config)
        machine = self._machines.get(_key(config))
        if machine is None and measure:
            self._timer.start()
        try:
            planned = plan(
                data.table,
                data.volume.shape,
                config,
                config.voxel_size or data.voxel_size,
                machine if isinstance(machine, Machine) else None,
            )
        except InputError as error:
            self.show_problem(error)
            return
        lines = [f"<b>{name}</b>&nbsp; {html.escape(text)}" for name, text in in_words(planned)]
        if machine is None and measure:
            lines.append("<i>Measuring speed and memory on this machine …</i>")
        elif isinstance(machine, str):
            lines.append(_marked(machine))
        self.setText("<br>".join([*lines, *map(_marked, planned.warnings)]))

    def show_problem(self, error: Exception) -> None:
        """Say why there can be no training."""
        self._timer.stop()
        self.setText(_marked(str(error)))

    def release(self) -> None:
        """End a measurement that is under way."""
        self._timer.stop()
        self._shown = None
        self._probes.forget()
        self._question.end()

    def _measure(self) -> None:
        if self._shown is not None:
            self._probes.ask(self._shown[1])

    def _probe(self, config: Config) -> tuple[str, Machine | str]:
        with tempfile.TemporaryDirectory(prefix="synapse_cl_") as folder:
            file = Path(folder) / "config.json"
            write_json(file, config.model_dump(mode="json", include=set(MEASURED_FOR)))
            try:
                return _key(config), Machine.from_json(json.dumps(self._question.ask(str(file))))
            except (InputError, JobError, OSError) as error:
                return _key(config), str(error)

    def _on_machine(self, measured: tuple[str, Machine | str]) -> None:
        key, machine = measured
        self._machines[key] = machine
        if self._shown is not None:
            self.show_plan(*self._shown)


def _key(config: Config) -> str:
    return config.model_dump_json(include=set(MEASURED_FOR))


def _marked(text: Any) -> str:
    return f"<span style='color:{MARK_COLOR}'>{MARK}{html.escape(sentence(str(text)))}</span>"

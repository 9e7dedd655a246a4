"""What a training will be, said before it is started."""

import html
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QLabel

from napari_synapse_cl.config import Config, VolumeConfig, settings_without_effect
from napari_synapse_cl.data.crops.cutting import recipe_of
from napari_synapse_cl.errors import InputError, JobError
from napari_synapse_cl.system.files import write_json
from napari_synapse_cl.training.estimates import MEASURED_FOR, Machine, Plan, in_words, plan_of
from napari_synapse_cl.widgets.jobs.child import NetworkReader, Question
from napari_synapse_cl.widgets.jobs.job import LatestOnly
from napari_synapse_cl.widgets.layers.taking import LayerData, dataset_of
from napari_synapse_cl.widgets.look import MARK, MARK_COLOR, expected, sentence

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
        self._asked: _Asked | None = None
        self._machines: dict[str, Machine | str] = {}
        self._networks = NetworkReader()
        self._plans = LatestOnly(self._plan)
        self._plans.done.connect(self._on_plan)
        self._plans.failed.connect(self._on_no_plan)
        self._question = Question("machine")
        self._probes = LatestOnly(self._probe)
        self._probes.done.connect(self._on_machine)
        self._timer = QTimer(self, singleShot=True, interval=PROBE_DELAY_MS, timeout=self._measure)

    def show_plan(
        self, several: Sequence[LayerData], config: Config, *, measure: bool = True
    ) -> None:
        """Say what a training with these layers and settings will be.

        Parameters
        ----------
        several
            Volumes and their synapses.
        measure
            Whether the machine may be measured: not while it is at work.
        """
        machine = self._machines.get(_key(config))
        self._asked = _Asked(several, config, machine, measure)
        if machine is None and measure:
            self._timer.start()
        # What is shown stays until there is something new to say.
        self._plans.ask(self._asked)

    def show_problem(self, error: Exception) -> None:
        """Say why there can be no training."""
        self._timer.stop()
        self._plans.forget()
        self.setText(_marked(str(error)))

    def release(self) -> None:
        """End a measurement that is under way."""
        self._timer.stop()
        self._asked = None
        self._plans.forget()
        self._probes.forget()
        self._question.end()
        self._networks.end()

    def _plan(self, asked: "_Asked") -> tuple["_Asked", Plan, list[str]]:
        """Return the plan and what else to tell of the data; of many synapses it takes a while."""
        config, machine = asked.config, asked.machine
        dataset = dataset_of(asked.several, config, self._networks.voxel_size_of(config.pretrained))
        for part in dataset.parts:
            recipe_of(part, config, dataset.positions.partners)
        planned = plan_of(dataset, config, machine if isinstance(machine, Machine) else None)
        return asked, planned, [text for text, level in dataset.messages if level == "info"]

    def _on_plan(self, told: tuple["_Asked", Plan, list[str]]) -> None:
        asked, plan, notes = told
        lines = [f"<b>{name}</b>&nbsp; {html.escape(text)}" for name, text in _rows(asked, plan)]
        lines += [html.escape(sentence(note)) for note in notes]
        if asked.machine is None and asked.measure:
            lines.append("<i>Measuring speed and memory on this machine …</i>")
        elif isinstance(asked.machine, str):
            lines.append(_marked(asked.machine))
        # Layers are in place of what names a volume.
        vain = settings_without_effect(asked.config, left_out=VolumeConfig.model_fields)
        self.setText("<br>".join([*lines, *map(_marked, [*plan.warnings, *vain])]))

    def _on_no_plan(self, error: Exception) -> None:
        self.show_problem(expected(error))

    def _measure(self) -> None:
        if self._asked is not None:
            self._probes.ask(self._asked.config)

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
        if self._asked is not None:
            self.show_plan(self._asked.several, self._asked.config)


@dataclass(frozen=True, eq=False)
class _Asked:
    """What decides what is said."""

    several: Sequence[LayerData]
    config: Config
    machine: Machine | str | None
    """What was measured, or why it could not be."""
    measure: bool


def _rows(asked: _Asked, plan: Plan) -> list[tuple[str, str]]:
    names = [data.part(asked.config).name for data in asked.several]
    return [*([("Volumes", ", ".join(names))] if len(names) > 1 else []), *in_words(plan)]


def _key(config: Config) -> str:
    return json.dumps(config.model_dump(mode="json", include=set(MEASURED_FOR)))


def _marked(text: Any) -> str:
    return f"<span style='color:{MARK_COLOR}'>{MARK}{html.escape(sentence(str(text)))}</span>"

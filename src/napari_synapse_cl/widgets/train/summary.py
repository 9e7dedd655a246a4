"""What a training will be, said before it is started."""

import html
import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qtpy.QtCore import Qt, QTimer, Signal
from qtpy.QtWidgets import QLabel

from napari_synapse_cl.config import Config, VolumeConfig, settings_without_effect
from napari_synapse_cl.data.crops.cutting import recipe_of
from napari_synapse_cl.errors import InputError, JobError
from napari_synapse_cl.system.files import write_json
from napari_synapse_cl.system.words import VoxelSize
from napari_synapse_cl.training.estimates import (
    MEASURED_FOR,
    Machine,
    Plan,
    in_words,
    measured_key,
    plan_of,
)
from napari_synapse_cl.widgets.jobs.child import NetworkReader, Question
from napari_synapse_cl.widgets.jobs.job import LatestOnly
from napari_synapse_cl.widgets.layers.taking import LayerData, dataset_of
from napari_synapse_cl.widgets.look import (
    MARK,
    MARK_COLOR,
    breakable,
    expected,
    label_of,
    link,
    sentence,
)

PROBE_DELAY_MS = 800
"""How long the settings must rest before the machine is measured for them."""
LOOKING = "Looking at the volume and the synapses …"
MEASURING = "Measuring speed and memory on this machine …"


class Summary(QLabel):
    """The plan of a training in words, with warnings; it follows what it is shown.

    Device, memory and time are measured in a process of their own, which takes seconds; until then
    the rest is said.
    """

    asked_for = Signal(str)
    """Emitted with the name of a setting that is to be shown."""
    usable = Signal(bool)
    """Emitted with whether there can be a training, when that is known anew."""
    timed = Signal(object)
    """Emitted with how long a training takes, in words, by the name of the preset; None stands for
    the settings as they are."""

    def __init__(self) -> None:
        super().__init__(f"<i>{LOOKING}</i>")
        self.setWordWrap(True)
        self.setAlignment(Qt.AlignmentFlag.AlignTop)
        self.setTextInteractionFlags(Qt.TextInteractionFlag.TextBrowserInteraction)
        self.setToolTip(
            "<qt>What a training with these layers and settings will be. Memory and time are "
            "estimates from a short measurement on this machine.</qt>"
        )
        self.linkActivated.connect(self.asked_for)
        self._asked: _Asked | None = None
        self._sizes: dict[str, VoxelSize] = {}
        self._machines: dict[str, Machine | str] = {}
        self._networks = NetworkReader()
        self._times: _Times | None = None
        self._plans = LatestOnly(self._plan)
        self._plans.done.connect(self._on_plan)
        self._plans.failed.connect(self._on_no_plan)
        self._question = Question("machine")
        self._probes = LatestOnly(self._probe)
        self._probes.done.connect(self._on_machine)
        self._timer = QTimer(self, singleShot=True, interval=PROBE_DELAY_MS, timeout=self._measure)

    def show_plan(
        self,
        several: Sequence[LayerData],
        config: Config,
        others: Mapping[str, Config] | None = None,
        *,
        measure: bool = True,
    ) -> None:
        """Say what a training with these layers and settings will be.

        Parameters
        ----------
        several
            Volumes and their synapses.
        others
            Settings by the names of presets: it is told how long they would take.
        measure
            Whether the machine may be measured: not while it is at work.
        """
        self._asked = _Asked(several, config, others or {}, dict(self._machines), measure)
        # What is shown stays until there is something new to say.
        self._plans.ask(self._asked)

    def learn_pace(self, config: Config, batch_size: int, steps: int, seconds: float) -> None:
        """Forecast by how long the steps of a training took here, seconds in all."""
        key = measured_key(config)
        machine = self._machines.get(key)
        if isinstance(machine, Machine) and steps and seconds:
            self._on_machine((key, machine.with_pace(config, batch_size, steps, seconds)))

    def show_problem(self, error: Exception) -> None:
        """Say why there can be no training."""
        self._timer.stop()
        self._plans.forget()
        self.setText(_marked(error))
        self.usable.emit(False)

    def release(self) -> None:
        """End a measurement that is under way."""
        self._timer.stop()
        self._asked = None
        self._plans.forget()
        self._probes.forget()
        self._question.end()
        self._networks.end()

    def _plan(self, asked: "_Asked") -> "_Told":
        """Return the plan and what else to tell of the data; of many synapses it takes a while."""
        plan = self._plan_of(asked, asked.config)
        for part in plan.dataset.parts:
            recipe_of(part, asked.config, plan.dataset.positions.partners)
        if self._times is None or self._times.several is not asked.several:
            self._times = _Times(asked.several, {})
        plans: dict[str | None, Plan] = {None: plan}
        for name, config in asked.others.items():
            # What the presets come to is the same whatever is filled in for the present one.
            key = config.model_dump_json()
            known = self._times.plans.get(key)
            if known is None or known.machine is not asked.machine_for(config):
                with suppress(InputError):
                    known = self._times.plans[key] = self._plan_of(asked, config)
            if known is not None:
                plans[name] = known
        return _Told(asked, plans, [t for t, level in plan.dataset.messages if level == "info"])

    def _plan_of(self, asked: "_Asked", config: Config) -> Plan:
        size = self._networks.voxel_size_of(config.pretrained)
        dataset = dataset_of(asked.several, config, size)
        return plan_of(dataset, config, asked.machine_for(config))

    def _on_plan(self, told: "_Told") -> None:
        asked, plan = told.asked, told.plans[None]
        for one in told.plans.values():
            self._sizes[measured_key(one.config)] = one.dataset.voxel_size
        if asked.measure and asked.unmeasured:
            self._timer.start()
        rows = [(name, html.escape(breakable(text))) for name, text in _rows(asked, plan)]
        lines = [f"<b>{name}</b>&nbsp; {text}" for name, text in rows]
        lines += [html.escape(breakable(sentence(note))) for note in told.notes]
        machine = asked.machines.get(measured_key(asked.config))
        if machine is None and asked.measure:
            lines.append(f"<i>{MEASURING}</i>")
        elif isinstance(machine, str):
            lines.append(_marked(machine))
        # Layers are in place of what names a volume.
        vain = settings_without_effect(asked.config, left_out=VolumeConfig.model_fields)
        self.setText("<br>".join([*lines, *map(_marked, [*plan.warnings, *vain])]))
        self.usable.emit(True)
        self.timed.emit(
            {name: one.forecast for name, one in told.plans.items() if one.machine is not None}
        )

    def _on_no_plan(self, error: Exception) -> None:
        self.show_problem(expected(error))

    def _measure(self) -> None:
        """Measure the machine for the first settings for which it is not known."""
        if self._asked is None:
            return
        for config in self._asked.unmeasured:
            # Without a plan of them they cannot be trained with.
            if (voxel_size := self._sizes.get(measured_key(config))) is not None:
                self._probes.ask(config, voxel_size)
                return

    def _probe(self, config: Config, voxel_size: VoxelSize) -> tuple[str, Machine | str]:
        key = measured_key(config)
        with tempfile.TemporaryDirectory(prefix="synapse_cl_") as folder:
            file = Path(folder) / "config.json"
            values = config.model_dump(mode="json", include=set(MEASURED_FOR))
            write_json(file, {**values, "voxel_size": list(voxel_size)})
            try:
                return key, Machine.from_json(json.dumps(self._question.ask(str(file))))
            except (InputError, JobError, OSError) as error:
                return key, str(error)

    def _on_machine(self, measured: tuple[str, Machine | str]) -> None:
        key, machine = measured
        self._machines[key] = machine
        if (asked := self._asked) is not None:
            self.show_plan(asked.several, asked.config, asked.others, measure=asked.measure)


@dataclass(frozen=True, eq=False)
class _Asked:
    """What decides what is said."""

    several: Sequence[LayerData]
    config: Config
    others: Mapping[str, Config]
    machines: Mapping[str, Machine | str]
    """What was measured, or why it could not be, by what it was measured for."""
    measure: bool

    def machine_for(self, config: Config) -> Machine | None:
        """Return what was measured for settings."""
        found = self.machines.get(measured_key(config))
        return found if isinstance(found, Machine) else None

    @property
    def unmeasured(self) -> list[Config]:
        """Settings for which the machine is not known, those that are filled in first."""
        every = [self.config, *self.others.values()]
        return [config for config in every if measured_key(config) not in self.machines]


@dataclass(frozen=True, eq=False)
class _Told:
    """What there is to say."""

    asked: _Asked
    plans: Mapping[str | None, Plan]
    notes: list[str]


@dataclass(frozen=True, eq=False)
class _Times:
    """Plans of presets for some volumes, by their settings."""

    several: Sequence[LayerData]
    plans: dict[str, Plan]


def _rows(asked: _Asked, plan: Plan) -> list[tuple[str, str]]:
    names = [data.part(asked.config).name for data in asked.several]
    return [*([("Volumes", ", ".join(names))] if len(names) > 1 else []), *in_words(plan)]


def _marked(problem: Any) -> str:
    """Return a warning in which the names of settings lead to their fields."""
    text = html.escape(breakable(sentence(str(problem))))
    return f"<span style='color:{MARK_COLOR}'>{MARK}{_NAMED.sub(_linked, text)}</span>"


_NAMES = {label_of(name): name for name in Config.model_fields}
_NAMED = re.compile("(?<=“)[^”]+(?=”)|^[^“]+(?= cannot be )")


def _linked(found: re.Match[str]) -> str:
    label = found[0]
    name = _NAMES.get(label)
    return label if name is None else link(name, label)

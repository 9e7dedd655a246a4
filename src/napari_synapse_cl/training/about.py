"""What ``config.json`` says of a run beside its settings: how to make it again, and with what."""

import platform
import shlex
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from napari_synapse_cl import __version__
from napari_synapse_cl.config import Config
from napari_synapse_cl.data.provenance import Source
from napari_synapse_cl.distributed import Ranks
from napari_synapse_cl.training.memory_plan import StepPlan
from napari_synapse_cl.training.runs import REPRODUCE

NEW_FOLDER = "NEW_FOLDER"
"""Where the command that makes a run again puts it, until another name is written there."""


def about_run(
    config_file: Path,
    config: Config,
    plan: StepPlan,
    device: torch.device,
    data: Sequence[Source],
    ranks: Ranks,
) -> dict[str, Any]:
    """Return, in plain types, what decides a run beside its settings.

    Parameters
    ----------
    config_file
        Where the settings are written.
    config, plan
        The settings, and how steps are computed where they leave that open.
    device
        Where it is computed.
    data
        What is trained on.
    ranks
        The processes that train together.
    """
    return {
        REPRODUCE: shlex.join(_command(config_file, config, plan, ranks)),
        "versions": {
            "napari-synapse-cl": __version__,
            "torch": version("torch"),
            "numpy": version("numpy"),
            "python": platform.python_version(),
        },
        "platform": platform.platform(),
        "device": _name_of(device),
        # On a CPU, sums of another number of threads round otherwise.
        "threads": torch.get_num_threads(),
        "processes": ranks.size,
        "data": list(data),
    }


def _command(config_file: Path, config: Config, plan: StepPlan, ranks: Ranks) -> list[str]:
    program = ["synapse-cl"]
    if ranks.size > 1:
        program = ["torchrun", "--nproc-per-node", str(ranks.size), "-m", "napari_synapse_cl"]
    command = [*program, "--config", str(config_file.absolute()), "--output", NEW_FOLDER]
    # What was measured might come out otherwise next time.
    if config.precision == "auto":
        command += ["--precision", plan.precision]
    if config.micro_batch_size == 0 and plan.micro_batch_size < config.batch_size // ranks.size:
        command += ["--micro_batch_size", str(plan.micro_batch_size)]
    return command


def _name_of(device: torch.device) -> str:
    if device.type != "cuda":
        return str(device)
    return f"{device} ({torch.cuda.get_device_name(device)})"

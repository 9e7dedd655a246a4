"""Answers that only a process with PyTorch can give: the window asks for them, and imports none.

``python -m napari_synapse_cl.pipeline.answers TOPIC ARGUMENT …`` writes an answer to standard
output as a line of JSON, or ``{"error": …}`` if what it was asked about cannot be used:

``machine FILE``
    What a training with the settings in a file takes here, as
    :meth:`~napari_synapse_cl.training.estimates.Machine.as_json` writes it.
``network LOCATION WHICH``
    What is in a checkpoint or run, as
    :meth:`~napari_synapse_cl.models.network_info.NetworkInfo.as_dict` has it.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

from napari_synapse_cl.config import Config
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.models.network_info import NetworkInfo
from napari_synapse_cl.pipeline.networks import open_network, run_of
from napari_synapse_cl.pipeline.probe import probe
from napari_synapse_cl.pipeline.provenance import Which
from napari_synapse_cl.system.downloads import local_file


def main(topic: str, *arguments: str) -> None:
    """Write the answer to a question."""
    try:
        answer = _TOPICS[topic](*arguments)
    except InputError as error:
        answer = {"error": str(error)}
    sys.stdout.write(json.dumps(answer) + "\n")


def _machine(file: str) -> dict[str, Any]:
    return json.loads(probe(Config.from_file(Path(file))).as_json())


def _network(location: str, which: str) -> dict[str, Any]:
    checkpoint = local_file(location)
    run = run_of(checkpoint)
    networks = ["trained"]
    if run is not None:
        networks += ["best"] if run.best_checkpoint.exists() else []
        networks += ["start"]
    opened = open_network(checkpoint, next(w for w in get_args(Which) if w == which))
    return NetworkInfo(
        opened.architecture,
        opened.crop_size,
        opened.voxel_size,
        opened.crop_settings,
        tuple(networks),
    ).as_dict()


_TOPICS: dict[str, Callable[..., dict[str, Any]]] = {"machine": _machine, "network": _network}

if __name__ == "__main__":
    main(*sys.argv[1:])

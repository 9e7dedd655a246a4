"""What is kept beside results: enough to know where they come from, and to make them again."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from napari_synapse_cl import __version__
from napari_synapse_cl.config import Config, Section
from napari_synapse_cl.models.architecture import Layer
from napari_synapse_cl.pipeline.networks import NetworkOrigin


def make_record(
    origin: NetworkOrigin, layers: Sequence[Layer], config: Config, *sections: type[Section]
) -> dict[str, Any]:
    """Return what every result tells of itself, in plain types.

    Parameters
    ----------
    origin
        The network.
    layers
        Its layers that were read.
    config
        Settings of the job.
    sections
        Those of the settings that decide what the result is.
    """
    names = {name for section in sections for name in section.model_fields}
    return {
        "napari-synapse-cl": __version__,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        **origin.as_dict(),
        "layers": [
            {
                "index": layer.index,
                "name": str(layer),
                "channels": layer.channels,
                "stride": list(layer.stride),
                "receptive_field": list(layer.receptive_field),
            }
            for layer in layers
        ],
        "settings": config.model_dump(mode="json", include=names),
    }

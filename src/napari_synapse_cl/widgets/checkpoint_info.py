"""What a form can say of a checkpoint.

Run as a module, with the path of a checkpoint, this says what is in it.
"""

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from napari_synapse_cl.errors import InputError
from napari_synapse_cl.widgets.ask import Question


@dataclass(frozen=True)
class CheckpointInfo:
    """What a form can say of a checkpoint.

    Attributes
    ----------
    layers
        Names of the layers, by their index.
    crop_size
        Size of the crops it was trained on, where the file says so.
    """

    layers: list[str]
    crop_size: list[int] | None


def read_checkpoint_info(path: Path) -> CheckpointInfo:
    """Return what is in a checkpoint; it takes seconds.

    Raises
    ------
    InputError
        If it is no checkpoint of a VGG3D.
    JobError
        If the process that was asked has crashed.
    """
    return CheckpointInfo(**Question(__name__).ask(str(path.absolute())))


def main(path: Path) -> None:
    """Write what is in a checkpoint, or what is wrong with it, to standard output as JSON."""
    from napari_synapse_cl.models.checkpoints import load_backbone

    try:
        backbone = load_backbone(path)
    except InputError as error:
        answer: dict[str, object] = {"error": str(error)}
    else:
        size = None if backbone.crop_size is None else list(backbone.crop_size)
        layers = [str(layer) for layer in backbone.architecture.layers]
        answer = asdict(CheckpointInfo(layers, size))
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

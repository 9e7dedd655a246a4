"""How fast features of crops come: layer 20, pooled to its mean, of crops of 80³.

Each way runs in a process of its own, with the same weights and crops. The batch norms' statistics
are those of two of the crops, and crops are random but smooth.
"""

from argparse import Namespace
from collections.abc import Iterator
from contextlib import ExitStack
from importlib import import_module
from importlib.util import find_spec

import torch
import torch.nn.functional as F
from measuring import Case, Section, Target, interleaved, process_of_its_own
from torch import Tensor, nn

from napari_synapse_cl.features.readout import Readout
from napari_synapse_cl.models.architecture import Architecture
from napari_synapse_cl.models.norms import channels_last
from napari_synapse_cl.models.vgg3d import Vgg3D, to_network_range
from napari_synapse_cl.system.devices import choose_device, choose_precision, to_device

LAYER = 20
HOOKED = "whole network with a hook, float32"
FLOOR = "convolutions alone"
PEERS = {"ONNX Runtime": "onnxruntime", "OpenVINO": "openvino"}


def measure(options: Namespace) -> Iterator[Section]:
    """Compare the ways to layer 20."""
    side, n, repeats = (16, 2, 2) if options.quick else (80, 4, 3)
    device = choose_device(options.device)
    precision = choose_precision("auto", device)
    what = (str(device), side, n)
    factories: dict[str, tuple[object, ...]] = {
        HOOKED: ("hooked_case", *what),
        f"ours, {precision}": ("our_case", *what, precision),
        "ours, float32": ("our_case", *what, "float32"),
        f"{FLOOR}, {precision}": ("floor_case", *what, precision),
    }
    notes = [
        f"{n} crops at a time. The convolutions are those up to layer {LAYER}, in the precision "
        "and the layout in which we run them, on maps that are there already."
    ]
    for peer, package in PEERS.items():
        if device.type != "cpu":
            notes.append(f"{peer} is compared on the CPU alone.")
        elif find_spec(package) is None:
            notes.append(f"{peer} is left out: {package} is not installed.")
        else:
            factories[f"{peer}, up to the layer"] = (f"{package}_case", side, n)
    with ExitStack() as stack:
        cases: dict[str, Case] = {
            name: stack.enter_context(process_of_its_own(f"extraction:{factory}", *arguments))
            for name, (factory, *arguments) in factories.items()
        }
        rows = interleaved(cases, repeats, items=n)
    section = Section(
        f"Layer {LAYER} of crops of {side}³, its mean, {device}", rows, HOOKED, "crops"
    )
    plain, centred = cosines(device, side, 2 * n, precision)
    section.notes += [
        *notes,
        f"Lowest cosine of our features in {precision} to those of the whole network, of {2 * n} "
        f"crops: {plain:.6f}, and less their mean over the crops {centred:.6f}.",
    ]
    ratio = section.median(HOOKED) / section.median(f"ours, {precision}")
    section.targets += [
        Target("extraction, times as fast as the whole network with a hook", ratio, 5),
        Target("extraction, lowest cosine to the whole network", plain, 0.9999),
    ]
    yield section


def cosines(device: torch.device, side: int, n: int, precision: str) -> tuple[float, float]:
    """Return the lowest cosine of our features to those of the hooked network.

    As they are, and less the mean over the crops.
    """
    network, crops = network_and_crops(side, n)
    ours = torch.from_numpy(our_readout(network, side, device, precision).read(crops)[LAYER])
    exact = hooked(network.to(device), to_network_range(crops).to(device)).cpu()
    pairs = ((ours, exact), (ours - ours.mean(0), exact - exact.mean(0)))
    plain, centred = (F.cosine_similarity(*pair).min().item() for pair in pairs)
    return plain, centred


def network_and_crops(side: int, n: int) -> tuple[Vgg3D, Tensor]:
    """Return the whole network with settled statistics, and crops in [0, 1]; always the same."""
    torch.manual_seed(0)
    network = Vgg3D((side,) * 3)
    smooth = F.interpolate(torch.rand(n, 1, *(side // 4,) * 3), scale_factor=4, mode="trilinear")
    crops = 0.8 * smooth + 0.2 * torch.rand(n, 1, *(side,) * 3)
    for module in network.features:
        if isinstance(module, nn.BatchNorm3d):
            # The statistics become those of the one batch that it sees.
            module.momentum = 1.0
    with torch.no_grad():
        network.features(to_network_range(crops[:2]))
    return network.eval(), crops


def hooked(network: Vgg3D, raw: Tensor) -> Tensor:
    """Return what a hook finds while the whole network runs, pooled."""
    found: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: object, output: Tensor) -> None:
        found.append(output.mean((2, 3, 4)))

    handle = network.features[LAYER].register_forward_hook(keep)
    with torch.inference_mode():
        network(raw)
    handle.remove()
    return found[0]


def our_readout(network: Vgg3D, side: int, device: torch.device, precision: str) -> Readout:
    return Readout(
        network, Architecture(), [LAYER], (side,) * 3, device=device, precision=precision
    )


def keep_freed_memory() -> None:
    """Do what the command line does when a job begins."""
    if find_spec("napari_synapse_cl.system.memory") is not None:
        import_module("napari_synapse_cl.system.memory").keep_freed_memory()


def hooked_case(device: str, side: int, n: int) -> Case:
    network, crops = network_and_crops(side, n)
    network.to(device)
    # What comes back waits for the device.
    return lambda: hooked(network, to_network_range(crops.to(device))).cpu()


def our_case(device: str, side: int, n: int, precision: str) -> Case:
    keep_freed_memory()
    network, crops = network_and_crops(side, n)
    readout = our_readout(network, side, torch.device(device), precision)
    return lambda: readout.read(crops)


def floor_case(device: str, side: int, n: int, precision: str) -> Case:
    keep_freed_memory()
    network, crops = network_and_crops(side, n)
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    calls: list[tuple[nn.Module, Tensor]] = []
    maps = to_network_range(crops)
    with torch.inference_mode():
        for module in network.features[: LAYER + 1]:
            if isinstance(module, nn.Conv3d):
                calls.append((module, channels_last(maps.to(device, dtype))))
            maps = module(maps)
        for module, _ in calls:
            to_device(module, torch.device(device))
            module.to(dtype)

    def run() -> None:
        with torch.inference_mode():
            for module, given in calls:
                module(given)
        if device.startswith("cuda"):
            torch.cuda.synchronize()

    return run


class _UpToTheLayer(nn.Module):
    """The network cut off behind the layer, and pooled, for other programs."""

    def __init__(self, network: Vgg3D) -> None:
        super().__init__()
        self.features = network.features[: LAYER + 1]

    def forward(self, raw: Tensor) -> Tensor:
        return self.features(raw).mean((2, 3, 4))


def onnxruntime_case(side: int, n: int) -> Case:
    import onnxruntime

    network, crops = network_and_crops(side, n)
    raw = to_network_range(crops)
    program = torch.onnx.export(_UpToTheLayer(network).eval(), (raw,), dynamo=True, verbose=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(
        program.model_proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    name = session.get_inputs()[0].name
    return lambda: session.run(None, {name: raw.numpy()})


def openvino_case(side: int, n: int) -> Case:
    import openvino
    from openvino.properties import hint

    network, crops = network_and_crops(side, n)
    raw = to_network_range(crops)
    core = openvino.Core()
    model = openvino.convert_model(_UpToTheLayer(network).eval(), example_input=raw)
    model.reshape(raw.shape)
    types = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    chosen = openvino.Type.bf16 if "BF16" in types else openvino.Type.f32
    request = core.compile_model(
        model, "CPU", {hint.inference_precision: chosen}
    ).create_infer_request()
    given = raw.numpy()
    return lambda: request.infer([given])

"""Choose where and how precisely to compute, by trying rather than by name.

What was measured on a device once is remembered for the jobs that follow.
"""

import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from math import prod
from pathlib import Path

import psutil
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_synapse_cl.errors import InputError
from napari_synapse_cl.system.distributed import local_cuda_device
from napari_synapse_cl.system.environment import cache_folder
from napari_synapse_cl.system.files import keep_record, read_record
from napari_synapse_cl.system.memory import GIB, Memory, main_memory, return_freed_memory

_CACHE = cache_folder()
FILE = None if _CACHE is None else _CACHE / "probes.json"
PROBE_REPEATS = 6
MINIMUM_GAIN = 1.2
"""How much faster bfloat16 must be to be worth its coarser numbers."""
HOPELESS = 3.0
"""How much slower bfloat16 must be, twice, to be tried no more."""
MAXIMUM_ERROR = 0.05
"""Relative error of a gradient in bfloat16 that its coarse numbers explain."""
LARGEST_CHECKED_MAP = 2**14
"""In voxels."""
CPU_INFO = Path("/proc/cpuinfo")


def remembered(name: str, measure: Callable[[], float | None]) -> float | None:
    """Return what was measured under a name, and measure it if that has not been done yet.

    Parameters
    ----------
    name
        Of the probe and all that its result depends on: the device, versions, the number of
        threads.
    measure
        Measures it. None, for what cannot be measured, is remembered too.
    """
    known = read_record(FILE)
    if name not in known:
        known[name] = measure()
        # Without a folder to write to it is measured again the next time.
        keep_record(FILE, known)
    value = known[name]
    return value if isinstance(value, float) else None


def choose_device(name: str) -> torch.device:
    """Return the device of this name; for "auto" the first of cuda, mps, cpu that works.

    Of several processes that work together on one computer each takes a GPU of its own.

    Raises
    ------
    InputError
        If the device is not there or cannot run a 3D convolution.
    """
    if name in ("auto", "cuda") and (own := local_cuda_device()) is not None:
        name = str(own)
    if name != "auto":
        device = torch.device(name)
        if not _works(device):
            raise InputError(
                f"the device {name} is not available or cannot run 3D convolutions; "
                "choose another, or auto"
            )
        return device
    return next(d for d in map(torch.device, ("cuda", "mps", "cpu")) if _works(d))


def usable_precisions(
    name: str, device: torch.device, trained_maps: Sequence[Sequence[int]] = ()
) -> list[str]:
    """Return the precisions of this name, the fastest first; for "auto" those that are right.

    Parameters
    ----------
    name
        "auto", "float32" or "bfloat16".
    trained_maps
        Sizes along z, y, x of the maps whose convolutions are trained.

    Raises
    ------
    InputError
        If bfloat16 was asked for and gives wrong gradients on this device.
    """
    if name == "float32":
        return ["float32"]
    wrong = [size for size in trained_maps if not _are_gradients_right(device, size)]
    if name == "bfloat16":
        if wrong:
            raise InputError(
                f"bfloat16 gives no or wrong gradients on {device} for feature maps of "
                f"{' × '.join(map(str, wrong[0]))} voxels, which these crops lead to; choose "
                "float32 or another crop_size"
            )
        return ["bfloat16"]
    if wrong:
        return ["float32"]
    gain = remembered(f"gain of bfloat16, {_speed_key(device)}", lambda: _gain_of_bfloat16(device))
    if gain is None:
        return ["float32"]
    return ["bfloat16", "float32"] if gain >= MINIMUM_GAIN else ["float32", "bfloat16"]


def choose_precision(
    name: str, device: torch.device, trained_maps: Sequence[Sequence[int]] = ()
) -> str:
    """Return the fastest of :func:`usable_precisions`."""
    return usable_precisions(name, device, trained_maps)[0]


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Return the context in which a network runs at this precision."""
    return torch.autocast(
        device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16", cache_enabled=True
    )


def to_device(network: nn.Module, device: torch.device) -> None:
    """Move a network to a device, in the memory layout that 3D convolutions are fast in."""
    network.to(device)
    for weight in network.parameters():
        if weight.ndim == 5:
            weight.data = weight.data.contiguous(memory_format=torch.channels_last_3d)


def memory_in_use(device: torch.device) -> float:
    """Return the memory in use in GiB: on a GPU what PyTorch holds there, else the process's."""
    if device.type == "cuda":
        return torch.cuda.memory_reserved(device) / GIB
    return psutil.Process().memory_info().rss / GIB


def memory_of(device: torch.device) -> Memory:
    """Return the memory of a device: how much of it this process can take more, and all of it."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        return Memory(*torch.cuda.mem_get_info(device))
    return_freed_memory()
    # Other GPUs share the machine's memory.
    return main_memory()


def device_name(device: torch.device) -> str:
    """Return what people call a device, as in "NVIDIA H100"."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    name = ""
    # Python's own name of a processor is poor, and all there is where these do not answer.
    with suppress(OSError, subprocess.SubprocessError):
        if sys.platform == "linux":
            text = CPU_INFO.read_text(encoding="utf-8")
            names = [n.split(":", 1)[1] for n in text.splitlines() if n.startswith("model name")]
            name = names[0] if names else ""
        elif sys.platform == "darwin":
            command = ["sysctl", "-n", "machdep.cpu.brand_string"]
            name = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return name.strip() or platform.processor() or platform.machine()


def _speed_key(device: torch.device) -> str:
    """Return what the speed of a device depends on."""
    hardware = device_name(device)
    if device.type != "cuda":
        capability = torch.backends.cpu.get_cpu_capability()
        hardware += f", {platform.node()}, {capability}, {torch.get_num_threads()} threads"
    return f"{device.type}, {hardware}, PyTorch {torch.__version__}"


def _works(device: torch.device) -> bool:
    try:
        _convolve(device, torch.float32, channels=1, size=4)
        # PyTorch's operations in 3D on Apple's GPUs are young, and some gave wrong numbers.
        return device.type != "mps" or _is_step_right(device)
    # Without the hardware or its driver, PyTorch raises either.
    except (RuntimeError, AssertionError):
        return False


def _is_step_right(device: torch.device) -> bool:
    """Whether what a training computes comes out as on a CPU."""
    found, expected = _small_step(device), _small_step(torch.device("cpu"))
    return bool((found - expected).norm() < MAXIMUM_ERROR * expected.norm())


def _small_step(device: torch.device) -> Tensor:
    """Return the gradient of a convolution's weights in a step of a training, on the CPU."""
    generator = torch.Generator().manual_seed(0)
    shapes = ((2, 1, 8, 8, 8), (4, 1, 3, 3, 3), (2, 3, 4))
    crops, weight, theta = (torch.randn(s, generator=generator).to(device) for s in shapes)
    grid = F.affine_grid(theta, list(crops.shape), align_corners=False)
    views = F.grid_sample(crops, grid, padding_mode="reflection", align_corners=False)
    layout = views.contiguous(memory_format=torch.channels_last_3d)
    weight = weight.contiguous(memory_format=torch.channels_last_3d).requires_grad_()
    maps = F.conv3d(layout, weight, padding=1)
    pooled = F.max_pool3d(F.relu(F.batch_norm(maps, None, None, training=True)), 2)
    pooled.mean(dim=(2, 3, 4)).square().sum().backward()
    assert weight.grad is not None
    return weight.grad.cpu()


def _gain_of_bfloat16(device: torch.device) -> float | None:
    """Return how much faster bfloat16 is than float32, None where it does not run."""
    seconds: dict[torch.dtype, list[float]] = {torch.float32: [], torch.bfloat16: []}
    try:
        # In turn, and by the fastest of each, so that other programs' work does not decide.
        for repeat in range(PROBE_REPEATS):
            for dtype, times in seconds.items():
                start = time.perf_counter()
                _convolve(device, dtype, channels=24, size=24)
                times.append(time.perf_counter() - start)
            slowdown = min(seconds[torch.bfloat16]) / min(seconds[torch.float32])
            if repeat and slowdown > HOPELESS:
                # A processor without such numbers would be busy for a quarter of a minute.
                break
    except RuntimeError:
        return None
    return min(seconds[torch.float32]) / min(seconds[torch.bfloat16])


def _are_gradients_right(device: torch.device, size: Sequence[int]) -> bool:
    """Whether a bfloat16 convolution's gradient is that of float32, for maps of this size.

    PyTorch 2.13's CPU build reads memory it has not written where a map is 2 voxels deep, and puts
    out anything from nearly right to infinite. It has been seen on small maps alone.
    """
    if prod(size) > LARGEST_CHECKED_MAP:
        return True
    try:
        return _gradient_error(device, size) < MAXIMUM_ERROR
    # It does not run.
    except RuntimeError:
        return False


def _gradient_error(device: torch.device, size: Sequence[int]) -> float:
    """Return the relative error of a bfloat16 convolution's gradient."""
    generator = torch.Generator().manual_seed(0)
    image, weight = (
        torch.randn(shape, generator=generator).to(device, torch.bfloat16)
        for shape in ((4, 8, *size), (8, 8, 3, 3, 3))
    )
    gradients = []
    for dtype in (torch.float32, torch.bfloat16):
        trained = weight.to(dtype).contiguous(memory_format=torch.channels_last_3d)
        trained.requires_grad_()
        layout = image.to(dtype).contiguous(memory_format=torch.channels_last_3d)
        F.conv3d(layout, trained, padding=1).square().sum().backward()
        assert trained.grad is not None
        gradients.append(trained.grad.float())
    exact, fast = gradients
    return float((exact - fast).norm() / exact.norm())


def _convolve(device: torch.device, dtype: torch.dtype, channels: int, size: int) -> None:
    """Run one 3D convolution forward and backward."""
    image, weight = (
        torch.ones(shape, device=device, dtype=dtype)
        .contiguous(memory_format=torch.channels_last_3d)
        .requires_grad_()
        for shape in ((2, channels, size, size, size), (channels, channels, 3, 3, 3))
    )
    F.conv3d(image, weight, padding=1).square().mean().backward()
    assert weight.grad is not None
    # Reading a value waits for the device.
    weight.grad.flatten()[0].item()

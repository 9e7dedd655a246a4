"""A training step: ours, as such code is usually written, and what its convolutions alone take."""

import argparse
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from measuring import Case, Section, Target, interleaved, process_of_its_own
from random_crops import RandomCrops
from torch import Tensor, nn

from napari_synapse_cl.augmentations.transforms import context_shape
from napari_synapse_cl.config import Config
from napari_synapse_cl.models.architecture import Architecture
from napari_synapse_cl.models.vgg3d import ContrastiveModel, Vgg3D
from napari_synapse_cl.system.devices import choose_device, choose_precision, to_device
from napari_synapse_cl.system.distributed import ALONE
from napari_synapse_cl.system.memory import keep_freed_memory
from napari_synapse_cl.training.objectives import make_objective
from napari_synapse_cl.training.step import FullBatch, Optimization
from napari_synapse_cl.training.views import Views

CUBES = (1.0, 1.0, 1.0)
MATRIX = 2048
OURS, PLAIN, FLOOR = "ours", "usual loop", "its convolutions alone"
AT_PEAK = "its operations as matrix products"


class OurStep:
    """Takes steps as a training does: from reading the crops to changing the weights."""

    def __init__(self, size: int, pairs: int, fmaps: int, device: torch.device) -> None:
        self.config = Config.from_values(
            {"crop_size": size, "fmaps": fmaps, "batch_size": pairs, "micro_batch_size": pairs}
        )
        self.device = device
        self.precision = choose_precision("auto", device)
        self.model = ContrastiveModel.from_seed(
            Architecture.from_config(self.config), self.config, 0
        )
        to_device(self.model, device)
        objective = make_objective(self.model, self.config)
        context = context_shape(self.config.crop_size, self.config, CUBES)
        self.views = Views(RandomCrops(pairs, context), self.config, device, CUBES)
        self._optimization = Optimization(self.model, objective, self.config, 1000)
        self._batch = FullBatch(self.model, objective, self.views.augmented, device, ALONE)
        self._batch.precision = self.precision
        self._batch.micro_batch_size = pairs
        self._synapses = np.arange(pairs)

    def __call__(self) -> None:
        """Take a step."""
        self._optimization.prepare(0)
        self.model.train()
        self._batch.backward(self._synapses, 1)
        self._optimization.take_step()
        wait_for(self.device)

    def augment(self) -> None:
        """Read the crops of a step and make their views, and nothing else."""
        self.views.augmented(self._synapses, 1)
        wait_for(self.device)

    def convolutions(self) -> tuple[Case, float]:
        """Return what runs the convolutions of a step alone, and how many operations they are."""
        shapes: list[tuple[nn.Conv3d, torch.Size]] = []
        hooks = [
            module.register_forward_pre_hook(
                lambda module, inputs: shapes.append((module, inputs[0].shape))
            )
            for module in self.model.backbone.features
            if isinstance(module, nn.Conv3d)
        ]
        self()
        for hook in hooks:
            hook.remove()
        dtype = torch.bfloat16 if self.precision == "bfloat16" else torch.float32
        calls: list[Callable[[], None]] = []
        n_operations = 0.0
        for number, (module, shape) in enumerate(shapes):
            calls.append(self._convolution(module, shape, dtype, with_input=number > 0))
            # Forward, and backward to the weights and, but for the first, to the input.
            n_passes = 3 if number else 2
            n_operations += 2 * n_passes * module.weight.numel() * shape[0] * shape[2:].numel()

        def run() -> None:
            for call in calls:
                call()
            wait_for(self.device)

        return run, n_operations

    def _convolution(
        self, module: nn.Conv3d, shape: torch.Size, dtype: torch.dtype, *, with_input: bool
    ) -> Callable[[], None]:
        def randoms(shape: torch.Size) -> Tensor:
            values = torch.randn(shape, device=self.device, dtype=dtype)
            return values.contiguous(memory_format=torch.channels_last_3d)

        image, weight = randoms(shape), randoms(module.weight.shape)
        bias = torch.zeros(module.out_channels, device=self.device, dtype=dtype)
        gradient = randoms(torch.Size([shape[0], module.out_channels, *shape[2:]]))

        def run() -> None:
            F.conv3d(image, weight, bias, padding=1)
            torch.ops.aten.convolution_backward(
                gradient,
                image,
                weight,
                [module.out_channels],
                *([1, 1, 1], [1, 1, 1], [1, 1, 1]),
                *(False, [0, 0, 0], 1),
                [with_input, True, True],
            )

        return run


def usual_loop(size: int, pairs: int, fmaps: int, device_name: str) -> Case:
    """Return a step as such code is usually written.

    Float32 in PyTorch's default memory layout; each view through the network by itself; a data
    loader that augments crop by crop with SciPy.
    """
    device = torch.device(device_name)
    backbone = Vgg3D((size,) * 3, fmaps=fmaps, output_classes=None)
    channels = 8 * fmaps
    head = nn.Sequential(nn.Linear(channels, 2048), nn.ReLU(), nn.Linear(2048, 128))
    model = nn.Sequential(backbone.features, nn.AdaptiveAvgPool3d(1), nn.Flatten(), head).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    loader = iter(torch.utils.data.DataLoader(_ScipyPairs(size), batch_size=pairs, num_workers=0))

    def step() -> None:
        one, two = (view.to(device) for view in next(loader))
        z = F.normalize(torch.cat([model(one), model(two)]), dim=1)
        similarity = (z @ z.T / 0.07).fill_diagonal_(-torch.inf)
        partners = torch.arange(2 * pairs, device=device).roll(pairs)
        loss = F.cross_entropy(similarity, partners)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()
        wait_for(device)

    return step


class _ScipyPairs(torch.utils.data.Dataset[tuple[Tensor, Tensor]]):
    def __init__(self, size: int) -> None:
        config = Config.from_values({"crop_size": size})
        self._size = size
        self._config = config
        self._rng = np.random.default_rng(0)
        shape = context_shape(config.crop_size, config, CUBES)
        self._crop = self._rng.random(shape, dtype=np.float32)

    def __len__(self) -> int:
        return 10**6

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self._view(), self._view()

    def _view(self) -> Tensor:
        from scipy import ndimage
        from scipy.spatial.transform import Rotation

        config, rng = self._config, self._rng
        turn = Rotation.from_euler("xyz", rng.uniform(-1, 1, 3) * config.rotation_range, True)
        matrix = turn.as_matrix() * np.where(rng.random(3) < config.flip_prob, -1, 1)
        inner = np.full(3, (self._size - 1) / 2)
        offset = (np.array(self._crop.shape) - 1) / 2 - matrix @ inner
        view = ndimage.affine_transform(
            self._crop, matrix, offset, (self._size,) * 3, order=1, mode="reflect"
        )
        view = ndimage.gaussian_filter(view, config.gaussian_blur_sigma * rng.random())
        mean = view.mean()
        view = (view - mean) * (1 + config.contrast_range * rng.uniform(-1, 1)) + mean
        view += config.brightness_range * rng.uniform(-1, 1)
        view += rng.normal(0, config.noise_level * rng.random() + 1e-9, view.shape)
        return torch.from_numpy(np.clip(view, 0, 1).astype(np.float32))[None]


def wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def matrix_product(device: torch.device, dtype: torch.dtype) -> Case:
    one, two = (torch.randn(MATRIX, MATRIX, device=device, dtype=dtype) for _ in range(2))

    def run() -> None:
        torch.mm(one, two)
        wait_for(device)

    return run


def measure(options: argparse.Namespace) -> Iterator[Section]:
    """Measure a step at two sizes."""
    device = choose_device(options.device)
    keep_freed_memory()
    settings = [(16, 4, 4)] if options.quick else [(80, 2, 24), (48, 4, 24)]
    for size, pairs, fmaps in settings:
        yield _measure(size, pairs, fmaps, device, repeats=3 if options.quick else 5)


def _measure(size: int, pairs: int, fmaps: int, device: torch.device, repeats: int) -> Section:
    ours = OurStep(size, pairs, fmaps, device)
    convolutions, n_operations = ours.convolutions()
    dtype = torch.bfloat16 if ours.precision == "bfloat16" else torch.float32
    product = matrix_product(device, dtype)

    def at_peak() -> float:
        start = time.perf_counter()
        product()
        return (time.perf_counter() - start) * n_operations / (2 * MATRIX**3)

    plain = process_of_its_own("training:usual_loop", size, pairs, fmaps, str(device))
    with plain as usual:
        rows = interleaved(
            {
                PLAIN: usual,
                OURS: ours,
                "its reading and augmentation alone": ours.augment,
                FLOOR: convolutions,
                AT_PEAK: at_peak,
            },
            repeats,
            warm_up=1,
        )
    section = Section(
        f"A training step of {pairs} pairs of {size}³, {fmaps} feature maps, on {device}",
        rows,
        PLAIN,
        "steps",
        notes=[
            f"Ours is in {ours.precision}. The usual loop runs in a process of its own, with what "
            "PyTorch does by default."
        ],
    )
    step, floor = section.median(OURS), section.median(FLOOR)
    augmentation = section.median("its reading and augmentation alone")
    on_gpu = device.type == "cuda"
    section.targets += [
        Target(
            f"step, {size}³, times its convolutions", step / floor, 1.3 if on_gpu else 1.25, False
        ),
        Target(f"step, {size}³, times as fast as the usual loop", section.median(PLAIN) / step, 4),
        Target(
            f"reading and augmentation, {size}³, % of a step", 100 * augmentation / step, 8, False
        ),
    ]
    return section

"""Augmentation: views of synapses, with what other libraries take for the same six transforms.

All of them rotate about three axes, flip, blur, change contrast and brightness, and add noise, in
ranges that are the program's defaults, each drawn anew for each volume. Where a library can, one
resampling cuts, rotates and flips. They differ in details that cost little: in how they draw, in
what they do at the faces, and in how far the blur's kernel reaches.
"""

import argparse
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from unittest.mock import patch

import numpy as np
import scipy.ndimage as ndi
import torch
from measuring import Case, Section, Target, interleaved

from napari_synapse_cl.augmentations.composition import apply, draw
from napari_synapse_cl.augmentations.spatial import rotations
from napari_synapse_cl.augmentations.transforms import context_shape
from napari_synapse_cl.config import AugmentationConfig
from napari_synapse_cl.system.devices import choose_device
from napari_synapse_cl.system.loops import Loop
from napari_synapse_cl.system.memory import keep_freed_memory

BATCH = 4
SIZE, SMALL_SIZE = 80, 24
REPEATS = 15
OURS = "ours"
IN_PYTORCH = "ours, computed by PyTorch"
TARGET = 4.0
RANGES = AugmentationConfig()
EPOCHS = count(1)
RADIANS = float(np.deg2rad(RANGES.rotation_range))
INTENSITIES = RANGES.contrast_range, RANGES.brightness_range

OneView = Callable[[torch.Tensor], object]
"""Makes a view of a ``(1, D, H, W)`` crop."""


def measure(options: argparse.Namespace) -> Iterator[Section]:
    """Time views of 80³ voxels from crops that rotations stay inside."""
    # As in a job of the program; the others gain by it too.
    keep_freed_memory()
    size = SMALL_SIZE if options.quick else SIZE
    shape = (size, size, size)
    context = context_shape(shape, RANGES)
    device = choose_device(options.device)
    crops = torch.rand(BATCH, 1, *context)
    cases: dict[str, Case] = {}
    notes = []
    on_device = crops.to(device)
    cases[OURS] = lambda: _ours(on_device, shape)
    if device.type == "cpu":
        cases[IN_PYTORCH] = lambda: _ours_in_pytorch(on_device, shape)
    peers = {}
    for name, make in {
        "SciPy": _scipy,
        "MONAI": _monai,
        "TorchIO": _torchio,
        "batchgeneratorsv2": _batchgenerators,
    }.items():
        try:
            peers[name] = make(size)
        except ImportError:
            notes.append(f"{name} is not installed, and left out.")
    n_threads = torch.get_num_threads()
    with _single_threads(n_threads) as pool:
        for name, view in peers.items():
            cases[name] = lambda view=view: [view(crop) for crop in crops]
            cases[f"{name}, a volume a thread"] = lambda view=view: list(pool.map(view, crops))
        rows = interleaved(cases, 2 if options.quick else REPEATS, warm_up=2, items=BATCH)
    section = Section(
        f"Six augmentations, {size}³ voxels from {context[0]}³, {BATCH} volumes, {device}",
        rows,
        OURS,
        "volumes",
        notes=notes,
    )
    others = {name: section.median(name) for name in cases if not name.startswith(OURS)}
    best = min(others, key=others.__getitem__)
    gain = others[best] / section.median(OURS)
    section.targets.append(Target(f"augmentation, times as fast as {best}", gain, TARGET))
    yield section


@contextmanager
def _single_threads(n: int) -> Iterator[ThreadPoolExecutor]:
    """Give threads in each of which PyTorch computes alone, as in the workers of a data loader."""
    with ThreadPoolExecutor(n, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        yield pool
    torch.set_num_threads(n)


def _ours(crops: torch.Tensor, shape: tuple[int, int, int]) -> None:
    drawn = draw(RANGES, 0, next(EPOCHS), range(len(crops)), 1)
    views = apply(crops, drawn, shape)
    # Reading a value waits for the device.
    views.flatten()[0].item()


def _ours_in_pytorch(crops: torch.Tensor, shape: tuple[int, int, int]) -> None:
    with patch.object(Loop, "__call__", return_value=False):
        _ours(crops, shape)


def _scipy(size: int) -> OneView:
    random = np.random.default_rng(0)

    def view(crop: torch.Tensor) -> np.ndarray:
        image = crop[0].numpy()
        contrast, brightness = (random.uniform(-one, one) for one in INTENSITIES)
        angles = random.uniform(-RANGES.rotation_range, RANGES.rotation_range, (1, 3))
        flips = np.where(random.random(3) < RANGES.flip_prob, -1.0, 1.0)
        matrix = rotations(angles)[0] * flips
        middle = (np.array(image.shape) - 1) / 2
        made = ndi.affine_transform(
            image,
            matrix,
            middle - matrix @ np.full(3, (size - 1) / 2),
            output_shape=(size,) * 3,
            output=np.float32,
            order=1,
            mode="reflect",
        )
        sigma = random.uniform(0, RANGES.gaussian_blur_sigma)
        made = ndi.gaussian_filter(made, sigma, mode="reflect")
        mean = made.mean()
        made *= np.float32(1 + contrast)
        made += np.float32(brightness - mean * contrast)
        noise = random.standard_normal(made.shape, dtype=np.float32)
        noise *= np.float32(random.uniform(0, RANGES.noise_level))
        made += noise
        return np.clip(made, 0, 1, out=made)

    return view


def _monai(size: int) -> OneView:
    from monai import transforms
    from monai.data import set_track_meta

    # What was done to a volume need not be kept.
    set_track_meta(False)
    blur = (0.0, RANGES.gaussian_blur_sigma)
    view: OneView = transforms.Compose(
        [
            transforms.RandAffine(
                prob=1,
                rotate_range=(RADIANS,) * 3,
                spatial_size=(size,) * 3,
                mode="bilinear",
                padding_mode="reflection",
            ),
            *(transforms.RandFlip(RANGES.flip_prob, axis) for axis in range(3)),
            transforms.RandGaussianSmooth(blur, blur, blur, prob=1),
            transforms.RandScaleIntensityFixedMean(prob=1, factors=RANGES.contrast_range),
            transforms.RandShiftIntensity(RANGES.brightness_range, prob=1),
            transforms.RandGaussianNoise(prob=1, std=RANGES.noise_level),
            _clip,
        ]
    )
    return view


def _torchio(size: int) -> OneView:
    import torchio

    random = np.random.default_rng(0)

    def intensities(image: torch.Tensor) -> torch.Tensor:
        contrast, brightness = (random.uniform(-one, one) for one in INTENSITIES)
        return image * (1 + contrast) + (brightness - image.mean() * contrast)

    compose = torchio.Compose(
        [
            torchio.RandomAffine(
                scales=0, degrees=RANGES.rotation_range, default_pad_value=0, check_shape=False
            ),
            torchio.CropOrPad(size),
            torchio.RandomFlip((0, 1, 2), RANGES.flip_prob),
            torchio.RandomBlur((0, RANGES.gaussian_blur_sigma)),
            torchio.Lambda(intensities),
            torchio.RandomNoise(std=(0, RANGES.noise_level)),
        ],
        copy=False,
    )
    return lambda crop: _clip(compose(torchio.ScalarImage(tensor=crop)).data)


def _batchgenerators(size: int) -> OneView:
    from batchgeneratorsv2.transforms.intensity.brightness import BrightnessAdditiveTransform
    from batchgeneratorsv2.transforms.intensity.contrast import ContrastTransform
    from batchgeneratorsv2.transforms.intensity.gaussian_noise import GaussianNoiseTransform
    from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
    from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
    from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
    from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms

    contrast = (1 - RANGES.contrast_range, 1 + RANGES.contrast_range)
    compose = ComposeTransforms(
        [
            SpatialTransform(
                (size,) * 3,
                patch_center_dist_from_border=0,
                random_crop=False,
                p_rotation=1,
                rotation=(-RADIANS, RADIANS),
                padding_mode_image="reflection",
            ),
            MirrorTransform((0, 1, 2)),
            GaussianBlurTransform((0, RANGES.gaussian_blur_sigma), synchronize_axes=True),
            ContrastTransform(contrast, preserve_range=False, synchronize_channels=True),
            BrightnessAdditiveTransform(0, RANGES.brightness_range),
            GaussianNoiseTransform((0, RANGES.noise_level)),
        ]
    )
    return lambda crop: _clip(compose(image=crop)["image"])


def _clip(image: torch.Tensor) -> torch.Tensor:
    return image.clamp_(0, 1)

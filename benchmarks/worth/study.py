"""The study of recipes: each thing alone against one base, then together."""

BASE = ("--recipe", "tissue", "--no-uniform_rotation", "--cutout_prob", "0", "--shift_range", "40",
        "--texture_weight", "0", "--num_epochs", "25")  # fmt: skip
"""Little change of grey, small rotations, moved centres; 300 steps of the training positions."""
SHORT = ("--recipe", "tissue", "--num_epochs", "25")
LONG = ("--random", "3000", "--recipe", "tissue", "--num_epochs", "16")
"""The recipe with ten times the random positions: 1,200 steps."""

NO_GREY = ("--brightness_range", "0", "--contrast_range", "0", "--noise_level", "0",
           "--gaussian_blur_sigma", "0")  # fmt: skip
"""Views differ from each other in where and how they are cut alone."""

START = ("--pretrained", "fibsem-10nm")
"""From the package's network in place of random weights."""

STUDY: dict[str, tuple[str, ...]] = {
    "tissue, 1200 steps": LONG,
    "tissue without cutouts, 1200 steps": (*LONG, "--cutout_prob", "0"),
    "tissue": SHORT,
    "tissue, 50 steps": ("--recipe", "tissue", "--num_steps", "50"),
    "tissue, 200 steps": ("--recipe", "tissue", "--num_steps", "200"),
    "from fibsem-10nm, 50 steps": ("--recipe", "tissue", *START, "--num_steps", "50"),
    "from fibsem-10nm, 200 steps": ("--recipe", "tissue", *START, "--num_steps", "200"),
    "from fibsem-10nm, 1000 steps": ("--recipe", "tissue", *START, "--num_steps", "1000"),
    "tissue, texture 4": (*SHORT, "--texture_weight", "4"),
    "tissue, texture 4, no cutouts": (*SHORT, "--texture_weight", "4", "--cutout_prob", "0"),
    "tissue, texture 4, periphery kept": (*SHORT, "--texture_weight", "4",
                                          "--cutout_kinds", "cuboid", "corner"),
    "base": BASE,
    "base + any rotation": (*BASE, "--uniform_rotation"),
    "base + cutouts": (*BASE, "--cutout_prob", "0.5"),
    "base + texture": (*BASE, "--texture_weight", "1"),
    "base without grey": (*BASE, *NO_GREY),
    "tissue without grey": (*SHORT, *NO_GREY),
    "base without shift": (*BASE, "--shift_range", "0"),
    "base + near positives": (*BASE, "--positive_distance", "150", "--positive_share", "0.5"),
    "base, DCL": (*BASE, "--objective", "dcl"),
    "base, BYOL": (*BASE, "--objective", "byol"),
    "base, MoCo": (*BASE, "--objective", "moco"),
    "base, VICReg": (*BASE, "--objective", "vicreg"),
    "tissue, VICReg": (*SHORT, "--objective", "vicreg"),
    "tissue, MoCo": (*SHORT, "--objective", "moco"),
    "tissue, 24 maps": (*SHORT, "--fmaps", "24"),
    "base, batches of 128": (*BASE, "--batch_size", "128"),
    "base, 24 maps": (*BASE, "--fmaps", "24"),
    "base, 48 voxels": (*BASE, "--crop_size", "48"),
}  # fmt: skip
"""Flags of ``train`` by the name of the row."""

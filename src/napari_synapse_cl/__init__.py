"""Contrastive fine-tuning of VGG3D on synapses in electron-microscopy volumes, inside napari."""


def __getattr__(name: str) -> str:
    """Return the version, which stands in what was installed; asking for it takes some ms."""
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("napari-synapse-cl")
    except PackageNotFoundError:
        return "unknown"

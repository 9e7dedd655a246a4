"""Contrastive fine-tuning of VGG3D on synapses in electron-microscopy volumes, inside napari."""

__version__ = "0.1.0"

"""Random 3D augmentations: drawn for each view, then applied to a whole batch on its device.

Each family of transforms has a module, and each transform a class in it: the settings it reads,
what it draws, what becomes of a batch, and its words. The list of them is in
:mod:`~napari_synapse_cl.augmentations.transforms`, and all that goes over them in
:mod:`~napari_synapse_cl.augmentations.composition`: a view can be drawn, applied, described,
compared and made again without knowing which transforms there are.

Nothing is imported here: data and window ask how much tissue views need, and wait for no PyTorch.
"""

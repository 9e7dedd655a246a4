"""Augmentation preview: a synapse's crop and its two views."""

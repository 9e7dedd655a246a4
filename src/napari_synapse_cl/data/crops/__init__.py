"""Crops around positions: how they are cut, resampled and masked, and where they are kept."""

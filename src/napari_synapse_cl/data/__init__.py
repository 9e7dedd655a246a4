"""Volumes, synapse tables, crops and the synthetic sample."""

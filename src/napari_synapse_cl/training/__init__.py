"""Contrastive training as an iterator of events."""

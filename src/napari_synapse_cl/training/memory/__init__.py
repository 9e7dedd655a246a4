"""How a training step fits into memory: planned, measured, and what is done when it runs out."""

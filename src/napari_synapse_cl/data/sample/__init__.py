"""The sample volume, drawn by a procedure."""

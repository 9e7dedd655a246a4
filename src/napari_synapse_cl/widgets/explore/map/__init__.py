"""The map of what is explored: a canvas in a dock of its own."""

"""Explore features: a table of vectors on its points, its crops, and what is found of them."""

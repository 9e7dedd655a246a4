"""Features over a region: maps, computed in tiles and kept as Zarr arrays."""

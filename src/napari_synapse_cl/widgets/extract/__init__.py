"""Extract features: of points, of volumes and of regions."""

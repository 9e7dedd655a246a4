"""A report on a feature table: one HTML file that needs nothing beside it."""

"""Extraction that many workers share and no failure undoes."""

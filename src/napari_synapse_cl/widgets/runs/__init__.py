"""Runs: what was trained so far, as a table, and compared."""

"""Data sets, loaders and transforms."""

"""Checkpoints and exchange with other frameworks."""

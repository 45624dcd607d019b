"""Differentiable operations, one file a family."""

"""Kernels compiled by Numba, one file a family."""

"""Convolutional networks from scratch, with derivatives of every order."""

__version__ = "0.1.0"

"""Modules, layers, functionals and initialisation."""

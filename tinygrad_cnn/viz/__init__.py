"""Plots of training and of what a network has learnt."""

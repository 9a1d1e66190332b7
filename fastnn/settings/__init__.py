"""Frozen values that a user configures: layers, losses, optimizers, learning rates, initialisers, functions."""

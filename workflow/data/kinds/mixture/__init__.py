"""Gaussian mixtures, whose consistency map is known."""

"""Samplers: plain functions of a field, noise and times."""

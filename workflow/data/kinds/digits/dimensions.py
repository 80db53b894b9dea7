"""Numbers of the digits that plans share with what computes. Imports nothing; is hashed."""

DIGIT_CLASSES = 10
GREY_LEVELS = 16
"""Pixels are integers in [0, 16]; samples are rounded to them, as FID protocols round to 255."""

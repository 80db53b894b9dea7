"""Numbers of the clips that plans share with what computes. Imports nothing; is hashed."""

RATE = 8000
"""Samples of sound in a second."""
BANDS, FRAMES = 24, 24
HOP = 180
"""Samples of sound from frame to frame."""
LENGTH = HOP * (FRAMES - 1)
"""Samples of sound in a clip."""
SECONDS = LENGTH / RATE

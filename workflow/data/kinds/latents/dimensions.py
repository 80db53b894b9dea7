"""Numbers of the latents that plans share with what computes. Imports nothing; is hashed."""

LATENT_CHANNELS = 4
PIXELS_A_LATENT = 8
"""Of a side."""

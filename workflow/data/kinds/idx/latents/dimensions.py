"""Numbers of the latents that plans share with what computes. Imports nothing; is hashed."""

CHANNELS = 4
PIXELS_A_LATENT = 4
"""Of a side: an autoencoder halves it twice."""

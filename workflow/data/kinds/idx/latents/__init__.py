"""The same images in the latents of a small autoencoder, which the workflow trains on them."""

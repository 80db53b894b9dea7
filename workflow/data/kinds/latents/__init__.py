"""ImageNet 512 in an autoencoder's latents."""

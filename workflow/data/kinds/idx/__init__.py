"""Grey images in IDX files: the MNIST family."""

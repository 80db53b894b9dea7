"""Numbers that plans share with what computes: of images, latents and their features. Imports nothing; is hashed."""

CLASSIFIER = 64
"""Features of the digits' classifier, and of the one that is trained on images or drawn at random."""
DIMENSIONS = {"classifier": CLASSIFIER, "random": CLASSIFIER, "inception": 2048, "dinov2": 1024}
"""Features by extractor. A covariance of as many needs more samples."""
DIGIT_CLASSES = 10
"""Classes of scikit-learn's digits."""
GREY_LEVELS = 16
"""The digits' pixels are integers in [0, 16]; samples are rounded to them, as FID protocols round to 255."""
LATENT_CHANNELS = 4
PIXELS_A_LATENT = 8
"""Of a side."""

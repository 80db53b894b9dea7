"""How many numbers the features of an image are, by extractor. Imports nothing, so that a plan may read it."""

CLASSIFIER = 64
"""Of the digits' classifier, and of the one that is trained on images or drawn at random."""
DIMENSIONS = {"classifier": CLASSIFIER, "random": CLASSIFIER, "inception": 2048, "dinov2": 1024}
"""A covariance of as many needs more samples."""

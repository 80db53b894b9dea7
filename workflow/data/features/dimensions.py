"""How many features there are, as plans and what computes know it. Imports nothing; is hashed."""

CLASSIFIER = 64
"""Of a classifier that is trained on the data, and of a network of fixed random weights."""
DIMENSIONS = {"classifier": CLASSIFIER, "random": CLASSIFIER, "inception": 2048, "dinov2": 1024}
"""By extractor. A covariance of as many needs more samples."""

"""scikit-learn's 8x8 digits."""

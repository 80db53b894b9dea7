"""scikit-learn's digits in colours of one luminance, whose law given their grey is known."""

"""Data sets: the kinds, a folder each; what they share of files of images, and of features that judge them."""

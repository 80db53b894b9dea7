"""Data sets: the kinds, one file each; files of images beside them, and features that judge them."""

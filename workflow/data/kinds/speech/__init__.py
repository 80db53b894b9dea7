"""Spoken words: a speech synthesiser's clips, as small log-mel spectrograms."""

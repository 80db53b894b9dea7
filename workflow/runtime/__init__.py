"""What the steps share: data sets, checkpoints, provenance, progress, features, tables."""

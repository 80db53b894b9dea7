"""What an experiment measures beside its runs."""

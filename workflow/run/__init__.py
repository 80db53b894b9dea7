"""What decides the numbers of a run: assembly, training, sampling, evaluation, measurements."""

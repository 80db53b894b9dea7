"""What follows `trigbench` on the command line, one module each."""

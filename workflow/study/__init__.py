"""What is reproduced: what study files may say, how they are read, and the one place that names runs and paths."""

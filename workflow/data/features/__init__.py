"""What images are judged by: extractors, references, distances."""

"""Models that were trained elsewhere, judged as the study's own runs are."""

"""Files, devices, clusters and clocks: what knows no study and decides no number."""

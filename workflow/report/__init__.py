"""Figures, findings, tables and pages: what people see of the results."""

import os

os.environ["MPLBACKEND"] = "Agg"  # before matplotlib is imported, which refuses to be where it cannot load a notebook's

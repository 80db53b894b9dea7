"""One command per rule of the workflow; each runs by hand: python -m trigbench.workflow.steps.train --help."""

import os
import sys

if "ipykernel" not in sys.modules:  # a notebook keeps its own, which a process that it starts may not be able to load
    os.environ["MPLBACKEND"] = "Agg"  # before any step imports matplotlib

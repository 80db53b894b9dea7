"""Where the workflow writes, below the folder that it is started in."""

from pathlib import Path

from trigbench._places import ROOT

RESULTS, REPORTS = Path("results"), Path("reports")
TIMING = RESULTS / "timing.json"
SIMULATIONS = RESULTS / "simulations.json"
"""How often verdicts are false, and find what is there."""
FRONT = REPORTS / "index.html"
PUBLISHED = ROOT / RESULTS / "published"
"""The committed results, beside the workflow."""

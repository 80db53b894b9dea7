"""One command per rule of the workflow; each runs by hand: python -m workflow.steps.train --help."""

"""One command per rule of the workflow; each runs by hand: python -m workflow.steps.train --help."""

import workflow.report  # noqa: F401 (before any step imports matplotlib)

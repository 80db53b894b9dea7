"""The kinds of data (workflow.study.kinds), a file each: settings, and what plans and pages need. None takes torch."""

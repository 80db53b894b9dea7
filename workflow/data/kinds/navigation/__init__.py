"""A simulated task: a point goes among pillars to a goal, by several ways."""

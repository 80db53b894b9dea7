"""Whether somebody's objective, network or data set is what the workflow takes it for: one set of checks for all.

The project's own are held to them in its tests.
"""

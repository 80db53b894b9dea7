"""What stands on the pages of the report: results on disk -> plain values for the templates.

Nothing is computed here that the tables do not hold; missing files leave a gap on the page, never an error.
"""

"""Figures, findings, tables and pages: what people see of the results."""

from trigbench._extras import need

need("workflow", __name__)

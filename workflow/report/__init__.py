"""Figures, findings, tables and pages: what people see of the results."""

"""What the papers claim, and what decides it: ledger, statistics, tables, verdicts."""

from trigbench._extras import need

need("workflow", __name__)

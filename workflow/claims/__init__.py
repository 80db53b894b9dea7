"""What the papers claim, and what decides it: ledger, statistics, tables, verdicts."""

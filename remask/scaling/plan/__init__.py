"""What to run: families, sizes and budgets as a table, kept in plan.json."""

"""Compare an engine with its reference: numbers, gates (budgets) and verdict, kept apart; and the report of them."""

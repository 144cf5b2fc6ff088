"""The user's own model as the reference: what it needs to answer, its answers, and the model itself in a process."""

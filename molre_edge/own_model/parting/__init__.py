"""Where the user's own model and the rebuild of its checkpoint part: step by step, and what would fix it."""

"""Field cases made with real programs: one thing wrong in a small plant, and its truth."""

"""Training pairs: one module per strategy, and hard negatives."""

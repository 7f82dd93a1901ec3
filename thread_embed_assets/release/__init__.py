"""What users take away: the model folder and search with it."""

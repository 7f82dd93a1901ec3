"""Training stages: configuration, the training run, checkpoints."""

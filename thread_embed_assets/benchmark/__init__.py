"""The chat retrieval benchmark: tasks, retrievers, metrics, statistics, report."""

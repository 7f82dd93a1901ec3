"""Which thread a new message continues: a cross-encoder fused with what the log knows, and a router around it."""

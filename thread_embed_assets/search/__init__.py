"""Search in a workspace's or a source's conversations: in words and in meaning, with filters, from ``searcher`` on."""

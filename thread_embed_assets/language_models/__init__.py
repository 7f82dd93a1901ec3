"""Language models that write about conversations: what is asked, who answers, what it costs, and what is kept."""

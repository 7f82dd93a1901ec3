"""Messages and conversations: cleaning, language, anonymising, windows, splits."""

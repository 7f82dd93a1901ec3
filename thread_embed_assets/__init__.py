"""ThreadEmbed: chat history in, a thread-aware embedding model and its benchmark out."""

__version__ = "0.1.0"

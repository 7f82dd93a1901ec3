"""One module per chat format, the catalogue that declares the sources, and the fetch layer."""

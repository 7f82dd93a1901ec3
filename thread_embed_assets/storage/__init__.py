"""The ground floor: folder layout, atomic files, fingerprints, DuckDB tables."""

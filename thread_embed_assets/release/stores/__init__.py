"""Vector stores behind one narrow interface, one module per store."""

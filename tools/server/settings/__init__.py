"""Settings and data sets that a client may name, and the form made from them."""

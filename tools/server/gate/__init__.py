"""The gate: the state that all routes share, access, bounds, ids that become paths, and how an error is said."""

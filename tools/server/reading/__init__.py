"""Records of runs as clients see them: rows, curves and events, read on as the logs grow."""

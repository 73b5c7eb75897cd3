"""The report of a run as one HTML file without a script."""

"""Hostile input by the thousand: `python -m tests.hostile`; the suite runs a sample of it."""

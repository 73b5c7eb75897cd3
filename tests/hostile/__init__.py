"""Hostile input by the thousand; the suite runs samples of it.

python -m tests.hostile                        # command lines, files, YAML, paths, environments, streams
python -m tests.hostile.damaged_runs 2000      # each file of a run, each key in it, each reader
"""

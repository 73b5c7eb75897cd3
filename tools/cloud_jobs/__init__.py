"""Jobs in Azure ML, for a terminal and for programs. The command is `tools/azure_jobs.py`."""

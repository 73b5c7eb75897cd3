"""The Azure ML backend, in five folders. Each imports from itself and from those before it:

service     the workspace and its login, errors in one line, machines and clusters, jobs, the MLflow store
settings    options of the backend, their checks offline, the run inside the job, the size of the job
submit      from settings to a submitted job: the run to continue, the job as YAML, the upload, checks by the service
follow      a job until it has ended: its states, its record mirrored here, its outcome, the trials of a sweep
fetch       the results: the run directory downloaded, the model registered

`training/train_azure_ml.py` calls submit, follow and fetch one after the other. The SDK is imported in functions only.
"""

"""A stand-in of Azure ML on the loopback interface, for tests of code that talks to the real service.

One port is an HTTP CONNECT proxy (`gateway.py`). Behind it the hosts of Azure's control plane are played, and
`*.blob.core.windows.net` is a real Azurite. A test sets `HTTPS_PROXY`, a certificate authority and credentials; the
code under test keeps its production addresses and uses the real azure-identity and azure-ai-ml. A submitted command is
really run on this machine (`machine.py`), and what it logs goes to a real MLflow server (`tracking.py`).
"""

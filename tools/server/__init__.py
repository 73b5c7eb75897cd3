"""The server of `tools/serve.py`: runs started, watched and compared over HTTP. It owns nothing that a run needs."""

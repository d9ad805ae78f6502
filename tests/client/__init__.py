"""The Python client and its command line, against the real service over HTTP."""

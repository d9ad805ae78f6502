"""Images of workspaces, built on this machine without a registry or a daemon: ``python -m images --help``.

It may use `devcluster` (its cache, its Go) and knows nothing of the service.
"""

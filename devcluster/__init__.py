"""A Kubernetes cluster of real parts for tests and demos: no Docker, everything on 127.0.0.1.

It needs no root, but for a node with real pods. It knows nothing of the product: `stack/` puts the two together.
"""

"""A Kubernetes cluster of real parts for tests and demos: no Docker, no root, everything on 127.0.0.1.

It knows nothing of the product: `stack/` puts the two together.
"""

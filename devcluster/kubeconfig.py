"""Writes kubeconfig files; never reads or touches the user's own."""

import json
import os
from pathlib import Path
from typing import Any


def write(path: Path, *, server: str, ca: Path, user: dict[str, Any]) -> Path:
    """A kubeconfig with one cluster and one user, readable by its owner only (JSON is YAML)."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "devcluster",
        "contexts": [{"name": "devcluster", "context": {"cluster": "devcluster", "user": "devcluster"}}],
        "clusters": [{"name": "devcluster", "cluster": {"server": server, "certificate-authority": str(ca)}}],
        "users": [{"name": "devcluster", "user": user}],
    }
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(config, file, indent=2)
    return path

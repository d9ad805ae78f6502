"""What runs in the pods of a stack's sessions: an image on the real node, or a simulation without one."""

from typing import Any

from devcluster import node
from images.recipes import Image


def values(image: Image, *, volume: bool) -> dict[str, Any]:
    """Values of the chart `user-pod` that bring the image's pods to the real node. `volume`: homes outlive pods."""
    repository, _, tag = image.reference.rpartition(":")
    return {
        "image": {"repository": repository, "tag": tag, "pullPolicy": "Never"},
        "persistence": {"enabled": volume},
        **node.PLACEMENT,
    }

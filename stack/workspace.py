"""What runs in the pods of a stack's sessions: an image on the real node, or a simulation without one."""

from typing import Any

from devcluster import node
from images.recipes import Image, Name


def values(image: Image) -> dict[str, Any]:
    """Values of the chart `user-pod` that bring the image's pods to the real node."""
    repository, _, tag = image.reference.rpartition(":")
    # The chart's startup probe needs a shell, and the tiny image has none.
    probes = {"startup": {"tcpSocket": {"port": "http"}}} if image.name == Name.TINY else {}
    return {
        "image": {"repository": repository, "tag": tag, "pullPolicy": "Never"},
        "probes": probes,
        **node.PLACEMENT,
    }

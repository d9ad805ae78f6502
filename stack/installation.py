"""What `helmfile -e embedded` needs on a real node: the images, and values that name them and place the pods there."""

from pathlib import Path

import yaml

from devcluster import node
from devcluster.cluster import Cluster
from images import recipes
from images.recipes import Image, Name
from stack import workspace


def prepare(cluster: Cluster, users: Name = Name.WORKSPACE) -> Path:
    """Build the images (minutes, the first time) and load them into the node; returns the file with the values.

    `users`: what runs in users' pods.
    """
    images = [recipes.build(name) for name in (Name.SERVICE, Name.REDIS, users)]
    for image in images:
        cluster.load_image(image.archive)
    service, redis, pod = images
    values = {
        "redis": {"image": _named(redis), "values": dict(node.PLACEMENT)},
        "service": {"image": _named(service), **node.PLACEMENT},
        "userPod": workspace.values(pod),
    }
    path = cluster.state / "images.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def _named(image: Image) -> dict[str, str]:
    repository, _, tag = image.reference.rpartition(":")
    return {"repository": repository, "tag": tag, "pullPolicy": "Never"}

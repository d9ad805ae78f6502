"""What `helmfile -e embedded` needs on a real node: the images, and values that name them and place the pods there."""

from pathlib import Path
from typing import Any

from devcluster import node
from devcluster.cluster import Cluster
from devcluster.image import write
from images import recipes
from images.recipes import Image, Name
from stack import workspace


def prepare(cluster: Cluster, users: Name = Name.WORKSPACE) -> Path:
    """Build the images (minutes, the first time) and load them into the node; returns the file with the values.

    `users`: what runs in users' pods.
    """
    values = {
        "redis": {"image": _named(_loaded(cluster, Name.REDIS)), "values": dict(node.PLACEMENT)},
        "keda": {"values": {"image": {"keda": _named(_keda(cluster))}, **node.PLACEMENT}},
        "service": {"image": _named(_loaded(cluster, Name.SERVICE)), **node.PLACEMENT},
        **users_values(cluster, users),
    }
    path = cluster.state / "images.yaml"
    path.write_text(workspace.text(values))
    return path


def users_values(cluster: Cluster, image: Name) -> dict[str, Any]:
    """Values with which new users' pods run this image, which the node then has."""
    return {"userPod": workspace.values(_loaded(cluster, image))}


def _keda(cluster: Cluster) -> Image:
    """KEDA's operator, the program that an embedded cluster otherwise runs outside of its pods."""
    program = cluster.tools.path("keda")
    name = f"localhost/user-pods/keda:{program.parents[1].name.rpartition('-')[2][:8]}"
    built = Image(name, write(cluster.state / "keda.tar", name=name, files={"keda": program}, command=["/keda"]))
    cluster.load_image(built.archive)
    return built


def _loaded(cluster: Cluster, name: Name) -> Image:
    image = recipes.build(name)
    cluster.load_image(image.archive)
    return image


def _named(image: Image) -> dict[str, str]:
    repository, _, tag = image.reference.rpartition(":")
    return {"repository": repository, "tag": tag, "pullPolicy": "Never"}

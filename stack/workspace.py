"""What runs in the pods of a stack's sessions: an image on the real node, or a simulation without one."""

from collections.abc import Mapping
from typing import Any

import yaml

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


def text(values: Mapping[str, Any]) -> str:
    """A values file, in which all text is quoted: helm takes an image's tag such as `99506e83` for a number."""
    return yaml.dump(values, Dumper=_Quoted)


class _Quoted(yaml.SafeDumper):
    """PyYAML itself quotes only what it would read as a number, and it needs a point in a float."""


def _quoted(dumper: yaml.SafeDumper, scalar: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", scalar, style='"')


_Quoted.add_representer(str, _quoted)

"""The ClusterFacts port. What the service has no right to see, which the API server answers with 403, is None."""

import re
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import TypeVar

from service.adapters.kubernetes.api import ApiRefused, Collection, KubeApi
from service.adapters.kubernetes.fields import (
    Json,
    annotations,
    as_dict,
    as_dicts,
    condition,
    is_terminating,
    labels,
    name_of,
    text,
)
from service.adapters.kubernetes.pod_spec import GIB, quantity
from service.domain.cluster_facts import KedaOperator, Node, StorageClass
from service.domain.errors import ClusterUnavailable
from service.domain.placement import Taint

T = TypeVar("T")
_KEDA = "keda-operator"
"""Name of KEDA's Deployment and container, in its chart and in its manifests."""
_VERSION = re.compile(r"v?(\d+\.\d+(\.\d+)?)([-+].*)?")
_CLASSES = Collection("/apis/storage.k8s.io/v1/storageclasses", metadata=True)
_NODES = Collection("/api/v1/nodes")
_NODES_PAGE = 25
"""A node takes up to 50 KB, most of it the names of images, and nobody else runs while a page is parsed."""
_REPELS = frozenset({"NoSchedule", "NoExecute"})
_DEFAULT = ("storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class")


class KubeClusterFacts:
    """See `service.domain.cluster_facts.ClusterFacts`. Unless `allowed`, it asks for nothing: audit logs stay clean."""

    def __init__(self, api: KubeApi, *, namespace: str, keda_namespace: str | None, allowed: bool) -> None:
        self._api = api
        self._allowed = allowed
        self._keda_namespace = keda_namespace
        self._autoscalers = Collection(
            f"/apis/autoscaling/v2/namespaces/{namespace}/horizontalpodautoscalers", metadata=True
        )

    async def keda(self) -> KedaOperator | None:
        if not self._allowed or self._keda_namespace is None:
            return None
        try:
            found = await self._api.get(f"/apis/apps/v1/namespaces/{self._keda_namespace}/deployments/{_KEDA}")
        except ClusterUnavailable as error:
            if _is_forbidden(error):
                return None
            raise
        return KedaOperator(_keda_version(found or {}))

    async def storage_classes(self) -> Sequence[StorageClass] | None:
        return await self._list(_CLASSES, _storage_class)

    async def autoscalers(self) -> Sequence[str] | None:
        found = await self._list(self._autoscalers, lambda item: None if is_terminating(item) else name_of(item))
        return None if found is None else [name for name in found if name]

    async def nodes(self) -> Sequence[Node] | None:
        return await self._list(_NODES, _node, size=_NODES_PAGE)

    async def _list(self, collection: Collection, read: Callable[[Json], T], *, size: int = 100) -> Sequence[T] | None:
        if not self._allowed:
            return None
        try:
            return await self._api.collect(collection, read, size=size)
        except ClusterUnavailable as error:
            if _is_forbidden(error):
                return None
            raise


def _is_forbidden(error: ClusterUnavailable) -> bool:
    return isinstance(error.__cause__, ApiRefused) and error.__cause__.status == HTTPStatus.FORBIDDEN


def _storage_class(item: Json) -> StorageClass:
    notes = annotations(item)
    return StorageClass(name_of(item), default=any(notes.get(name) == "true" for name in _DEFAULT))


def _node(item: Json) -> Node:
    spec, given = as_dict(item.get("spec")), as_dict(as_dict(item.get("status")).get("allocatable"))
    return Node(
        name=name_of(item),
        cpu=_amount(given.get("cpu")),
        memory=_amount(given.get("memory")) / GIB,
        pods=int(_amount(given.get("pods"))),
        usable=bool(condition(item, "Ready", "True")) and spec.get("unschedulable") is not True,
        labels=labels(item),
        taints=tuple(
            Taint(text(each.get("key")) or "", text(each.get("value")) or "", str(each["effect"]))
            for each in as_dicts(spec.get("taints"))
            if each.get("effect") in _REPELS
        ),
    )


def _amount(given: object) -> float:
    """0 for what is no quantity: a node that does not say what it has is full."""
    try:
        return quantity(str(given))
    except ValueError:
        return 0


def _keda_version(deployment: Json) -> str | None:
    """By the image's tag, which runs; a mirror may use digests alone, and then the chart's label says it."""
    pod = as_dict(as_dict(as_dict(deployment.get("spec")).get("template")).get("spec"))
    images = [text(each.get("image")) for each in as_dicts(pod.get("containers")) if each.get("name") == _KEDA]
    tags = [image.partition("@")[0].rpartition("/")[2].partition(":")[2] for image in images if image]
    for given in (*tags, labels(deployment).get("app.kubernetes.io/version")):
        if found := _VERSION.fullmatch(given or ""):
            return found[1]
    return None

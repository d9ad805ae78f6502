"""The Inventory port of the diagnosis: lists every object once, and keeps the few facts that the checks need.

It needs no right that the workload cache and helm do not have. Of ScaledObjects and claims it reads the status, of all
other kinds only the metadata, which say who has changed what.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from service.adapters.kubernetes.api import KubeApi
from service.adapters.kubernetes.fields import (
    Json,
    annotations,
    as_dict,
    as_dicts,
    condition,
    labels,
    moment,
    name_of,
    text,
)
from service.adapters.kubernetes.managed_fields import applies_the_chart
from service.adapters.kubernetes.objects import SERVICE_MANAGERS, Kind, parse, session_id_of
from service.adapters.kubernetes.paths import collections
from service.domain.diagnosis.ports import Edit, ObjectFacts
from service.domain.names import SessionId, release_name
from service.domain.release import Release

_CLAIM_PENDING = "Pending"
_KINDS = {
    Kind.DEPLOYMENT: "deployment",
    Kind.SCALER: "scaledobject",
    Kind.CLAIM: "persistentvolumeclaim",
    Kind.REVISION: "secret",
    Kind.POD: "pod",
}
_WITH_STATUS = frozenset({Kind.SCALER, Kind.CLAIM})
_EDITABLE = frozenset({Kind.DEPLOYMENT, Kind.SCALER})
_CONTROLLERS = frozenset({"kube-controller-manager", *SERVICE_MANAGERS})
"""Field managers that change the objects of sessions as a part of their work, beside helm and KEDA."""
_FREE = ("spec.replicas", ".kubectl.kubernetes.io/restartedAt")
"""What everybody may set: whether the session is awake, and (`kubectl rollout restart`) since when its pod runs."""


class KubeInventory:
    """See `service.domain.diagnosis.ports.Inventory`."""

    def __init__(self, api: KubeApi, *, namespace: str) -> None:
        self._api = api
        self._collections = collections(namespace)

    async def objects(self) -> Sequence[ObjectFacts]:
        lists = await asyncio.gather(*map(self._list, Kind))
        return [each for listed in lists for each in listed]

    async def revisions(self, uuid: SessionId) -> Sequence[ObjectFacts]:
        selected = replace(
            self._collections[Kind.REVISION], labels=f"owner=helm,name={release_name(uuid)}", metadata=True
        )
        found = (facts(Kind.REVISION, item) for item in await self._api.list(selected))
        return [each for each in found if each.uuid == uuid]

    async def delete_revision(self, uuid: SessionId, revision: int) -> None:
        name = f"sh.helm.release.v1.{release_name(uuid)}.v{revision}"
        await self._api.delete(self._collections[Kind.REVISION].item(name))

    async def _list(self, kind: Kind) -> list[ObjectFacts]:
        """Page by page: the objects themselves would take fifty times the memory of the facts."""
        listed = replace(self._collections[kind], metadata=kind not in _WITH_STATUS)
        found: dict[str, ObjectFacts] = {}
        async for page, _ in self._api.pages(listed):
            found |= {name_of(item): facts(kind, item) for item in page}
            await asyncio.sleep(0)
        return [*found.values()]


def facts(kind: Kind, item: Json) -> ObjectFacts:
    """What the checks need to know of one object, whatever else is in it."""
    metadata, status = as_dict(item.get("metadata")), as_dict(item.get("status"))
    finalizers = metadata.get("finalizers")
    found = ObjectFacts(
        kind=_KINDS[kind],
        name=name_of(item),
        uuid=session_id_of(kind, item),
        deleting_since=moment(metadata.get("deletionTimestamp")),
        finalizers=tuple(each for each in finalizers if text(each)) if isinstance(finalizers, list) else (),
        edits=tuple(_edits(item)) if kind in _EDITABLE else (),
        kept=annotations(item).get("helm.sh/resource-policy") == "keep",
    )
    if kind is Kind.CLAIM:
        unbound = status.get("phase") == _CLAIM_PENDING
        return replace(found, unbound=unbound, storage_class=text(as_dict(item.get("spec")).get("storageClassName")))
    if kind is Kind.SCALER:
        reason = condition(item, "Ready", "False")
        return replace(
            found, not_ready=str(reason.get("message") or reason.get("reason") or "no reason") if reason else None
        )
    if kind is Kind.REVISION and isinstance(release := parse(kind, item), Release):
        return replace(
            found, revision=release.revision, state=labels(item).get("status"), modified_at=release.modified_at
        )
    return found


def _edits(item: Json) -> Iterator[Edit]:
    entries = as_dicts(as_dict(item.get("metadata")).get("managedFields"))
    appliers = {entry.get("manager") for entry in entries if applies_the_chart(entry)}
    for entry in entries if appliers else ():  # an object without a chart does not differ from it
        manager = text(entry.get("manager")) or "somebody"
        if entry.get("subresource") or manager in appliers or _is_controller(manager):
            continue
        changed = _paths(as_dict(as_dict(entry.get("fieldsV1")).get("f:spec")))
        if fields := tuple(sorted(path for path in changed if not path.endswith(_FREE))):
            yield Edit(manager, fields, moment(entry.get("time")))


def _is_controller(manager: str) -> bool:
    return manager in _CONTROLLERS or manager.startswith("keda")


def _paths(fields: Mapping[str, Any], prefix: str = "spec") -> Iterator[str]:
    """The changed fields, as `spec.template.spec.containers[name="workspace"].image`."""
    for name, inner in fields.items():
        if name.startswith("f:"):
            path = f"{prefix}.{name.removeprefix('f:')}"
        elif name.startswith("k:"):
            path = f"{prefix}[{_key(name.removeprefix('k:'))}]"
        else:
            continue
        deeper = {each: value for each, value in as_dict(inner).items() if each.startswith(("f:", "k:"))}
        if deeper:
            yield from _paths(deeper, path)
        else:
            yield path


def _key(text: str) -> str:
    """What tells an item of a list from the others: `{"name":"workspace"}` as `name="workspace"`."""
    return text.removeprefix('{"').removesuffix("}").replace('":', "=").replace(',"', ",")

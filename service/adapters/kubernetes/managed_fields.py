"""Who has set which fields of an object, as Kubernetes keeps it in `metadata.managedFields`."""

from collections.abc import Collection, Sequence

from service.adapters.kubernetes.fields import Json, as_dict


def applies_the_chart(entry: Json) -> bool:
    """Whether it sets the label of the chart's version: helm does, a GitOps tool, or who applies helm's manifest."""
    labels = as_dict(as_dict(as_dict(entry.get("fieldsV1")).get("f:metadata")).get("f:labels"))
    return "f:helm.sh/chart" in labels


def without_agreed(entries: Sequence[Json], owner: str, others: Collection[str]) -> Sequence[Json]:
    """The entries without those fields of the others that have the owner's values.

    These are what they share with the owner, and all that they have applied as a part of the chart's manifest.
    """
    owned = [as_dict(entry.get("fieldsV1")) for entry in entries if entry.get("manager") == owner]
    left = []
    for entry in entries:
        if entry.get("manager") not in others or entry.get("manager") == owner or entry.get("subresource"):
            left.append(entry)
        elif not (entry.get("operation") == "Apply" and applies_the_chart(entry)):
            fields = as_dict(entry.get("fieldsV1"))
            for each in owned:
                fields = _without(fields, each)
            if fields:
                left.append({**entry, "fieldsV1": fields})
    return left


def _without(fields: Json, owned: Json) -> Json:
    """The fields that are not owned. A field without others below it is one value."""
    left: Json = {}
    for name, inner in fields.items():
        if name not in owned:
            left[name] = inner
        elif rest := _without(as_dict(inner), as_dict(owned[name])):
            left[name] = rest
    return left

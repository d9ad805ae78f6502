"""Names a chart and the values that many releases share, so that a release made from others can be told."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_LENGTH = 12
_IGNORED = frozenset({"README.md", "README.md.gotmpl", ".helmignore", "ci"})
"""What no release is rendered from."""


def revision_of(chart: Path, values: Mapping[str, Any]) -> str:
    """Twelve hexadecimal digits. `chart` is a folder or an archive; one that cannot be read counts as empty."""
    digest = hashlib.sha256()
    for name, content in sorted(_files(chart).items()):
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    digest.update(json.dumps(values, sort_keys=True, default=str).encode())
    return digest.hexdigest()[:_LENGTH]


def target_of(revisions: Mapping[str | None, str]) -> str:
    """Names all revisions, by profile: the only one, or twelve hexadecimal digits of its own."""
    if len(revisions) == 1:
        return next(iter(revisions.values()))
    text = json.dumps({name or "": revision for name, revision in revisions.items()}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:_LENGTH]


def _files(chart: Path) -> dict[str, bytes]:
    try:
        if chart.is_file():
            return {"": chart.read_bytes()}
        paths = [path for path in chart.rglob("*") if path.is_file()]
        names = {path: path.relative_to(chart) for path in paths}
        return {name.as_posix(): path.read_bytes() for path, name in names.items() if name.parts[0] not in _IGNORED}
    except OSError:
        return {}

"""The cluster's DNS: CoreDNS in a pod of the real node, behind the Service `kube-dns`.

It is a pod as in other clusters, because NetworkPolicies admit DNS by its pods' label. Its program is mounted: an image
with it would take seconds to import. It answers for the cluster's names only: pods have no external network.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

ADDRESS = "10.96.0.10"
"""Of the Service, the usual one in this range."""
DOMAIN = "cluster.local"
_NAME = "coredns"
_SPACE = "kube-system"
_LABELS = {"k8s-app": "kube-dns"}
_COREFILE = f"""\
{DOMAIN}:53 in-addr.arpa:53 ip6.arpa:53 {{
    errors
    ready
    kubernetes {DOMAIN} in-addr.arpa ip6.arpa {{
        pods verified
    }}
}}
"""


def objects(program: Path, *, image: str, placement: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Everything in the API that it needs.

    `image` is any image for the static `program`; `placement` makes a pod's spec run on the real node. A DaemonSet, so
    that nothing is pending in a cluster without that node.
    """
    reads = {"verbs": ["list", "watch"]}
    watched = [
        {"apiGroups": [""], "resources": ["namespaces", "pods", "services"], **reads},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], **reads},
    ]
    role = "devcluster:coredns"
    subject = {"kind": "ServiceAccount", "name": _NAME, "namespace": _SPACE}
    container = {
        "name": _NAME,
        "image": image,
        "imagePullPolicy": "Never",
        "command": [f"/program/{program.name}", "-conf", "/config/Corefile"],
        "volumeMounts": [
            {"name": "program", "mountPath": "/program", "readOnly": True},
            {"name": "config", "mountPath": "/config", "readOnly": True},
        ],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8181}, "periodSeconds": 1},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]},
        },
    }
    pod = {
        "serviceAccountName": _NAME,
        "priorityClassName": "system-node-critical",
        "dnsPolicy": "Default",
        "terminationGracePeriodSeconds": 0,
        "containers": [container],
        "volumes": [
            {"name": "program", "hostPath": {"path": str(program.parent), "type": "Directory"}},
            {"name": "config", "configMap": {"name": _NAME}},
        ],
        **placement,
    }
    ports = [{"name": f"dns-{kind.lower()}", "port": 53, "protocol": kind} for kind in ("UDP", "TCP")]
    here = {"name": _NAME, "namespace": _SPACE}
    return [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": here, "data": {"Corefile": _COREFILE}},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": here},
        {"apiVersion": _RBAC, "kind": "ClusterRole", "metadata": {"name": role}, "rules": watched},
        {
            "apiVersion": _RBAC,
            "kind": "ClusterRoleBinding",
            "metadata": {"name": role},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [subject],
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "kube-dns", "namespace": _SPACE, "labels": _LABELS},
            "spec": {"clusterIP": ADDRESS, "selector": _LABELS, "ports": ports},
        },
        {
            "apiVersion": "apps/v1",
            "kind": "DaemonSet",
            "metadata": here,
            "spec": {
                "selector": {"matchLabels": _LABELS},
                "template": {"metadata": {"labels": _LABELS}, "spec": pod},
            },
        },
    ]


_RBAC = "rbac.authorization.k8s.io/v1"

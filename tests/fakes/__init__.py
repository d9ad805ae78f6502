"""The domain's ports in memory, one module each: what the real adapters promise, in short.

tests/contracts holds these and the real adapters to the same tests.
"""

from tests.fakes.api_key_file import MemoryApiKeyFile
from tests.fakes.audit_trail import MemoryAuditTrail
from tests.fakes.bearer_tokens import MemoryBearerTokens
from tests.fakes.cluster import MemoryCluster
from tests.fakes.cluster_facts import MemoryClusterFacts
from tests.fakes.companions import MemoryCompanions
from tests.fakes.diagnoses import MemoryDiagnoses
from tests.fakes.election import MemoryElection
from tests.fakes.history import MemoryHistory
from tests.fakes.inventory import MemoryInventory
from tests.fakes.measured_wakes import MemoryMeasuredWakes
from tests.fakes.pod_events import MemoryPodEvents
from tests.fakes.port_probe import MemoryPortProbe
from tests.fakes.progress import MemoryProgress
from tests.fakes.queues import MemoryQueues
from tests.fakes.redis_inspector import MemoryRedisInspector
from tests.fakes.releases import MemoryReleases
from tests.fakes.rollouts import MemoryRollouts
from tests.fakes.shared_levels import MemorySharedLevels
from tests.fakes.sign_outs import MemorySignOuts
from tests.fakes.signing_keys import MemorySigningKeys
from tests.fakes.store import MemoryStore
from tests.fakes.tickets import MemoryTickets

__all__ = [
    "MemoryApiKeyFile",
    "MemoryAuditTrail",
    "MemoryBearerTokens",
    "MemoryCluster",
    "MemoryClusterFacts",
    "MemoryCompanions",
    "MemoryDiagnoses",
    "MemoryElection",
    "MemoryHistory",
    "MemoryInventory",
    "MemoryMeasuredWakes",
    "MemoryPodEvents",
    "MemoryPortProbe",
    "MemoryProgress",
    "MemoryQueues",
    "MemoryRedisInspector",
    "MemoryReleases",
    "MemoryRollouts",
    "MemorySharedLevels",
    "MemorySignOuts",
    "MemorySigningKeys",
    "MemoryStore",
    "MemoryTickets",
]

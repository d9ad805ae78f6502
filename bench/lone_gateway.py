"""A gateway before one workspace, without a cluster: what it costs to pass something on depends on nothing else.

`python -m bench.lone_gateway PORT POD_PORT`; prints the headers, as JSON, that let a client in.
"""

import asyncio
import json
import sys
from datetime import UTC, datetime

import uvloop

from service.domain.access import WorkspaceAccess
from service.domain.activity import SessionActivity
from service.domain.idle_times import IdleTimes
from service.domain.keyring import Keyring
from service.domain.names import SessionId
from service.domain.queries import SessionQueries
from service.domain.record import Record, RecordStatus
from service.domain.release import Release, ReleaseState
from service.domain.workload import Pod, Workload
from service.edge.drain import Drain
from service.edge.ports import bind
from service.gateway.access.cookie_header import COOKIE
from service.gateway.access.hosts import Hosts
from service.gateway.companion.script import CompanionScript
from service.gateway.gateway import Gateway
from service.gateway.limits import GatewayLimits
from service.gateway.proxy.headers import Forwarding
from service.gateway.server import serving
from tests.fakes import (
    MemoryCluster,
    MemoryCompanions,
    MemoryHistory,
    MemoryProgress,
    MemoryQueues,
    MemorySigningKeys,
    MemorySignOuts,
    MemoryStore,
    MemoryTickets,
)

_UUID = SessionId("abc123xy")
_HOST = f"vs-code-{_UUID}.pods.test"


def _awake_session(cluster: MemoryCluster, pod: int) -> tuple[SessionActivity, SessionQueries]:
    now = datetime.now(UTC)
    cluster.change(
        Workload(
            _UUID,
            user_id="ann",
            release=Release(f"user-{_UUID}", 1, ReleaseState.DEPLOYED, now),
            deployed=True,
            has_scaler=True,
            replicas=1,
            ready=1,
            pod=Pod("uid", "127.0.0.1", pod, scheduled=True, started=True, ready=True),
        )
    )
    queues = MemoryQueues(index_is_complete=True)
    queues.sessions[_UUID] = Record(_UUID, "ann", RecordStatus.CREATED, now)
    queries = SessionQueries(
        store=MemoryStore(queues), history=MemoryHistory(), cluster=cluster, cache=cluster, idle_times=IdleTimes()
    )
    activity = SessionActivity(
        queries=queries,
        queues=queues,
        progress=MemoryProgress(),
        cluster=cluster,
        cache=cluster,
        companions=MemoryCompanions(),
    )
    return activity, queries


async def main(port: int, pod: int) -> None:
    cluster, keyring = MemoryCluster(), Keyring(MemorySigningKeys())
    access = WorkspaceAccess(MemoryTickets(), keyring, cluster, origin=lambda uuid: f"https://{uuid}")
    activity, queries = _awake_session(cluster, pod)
    gateway = Gateway(
        hosts=Hosts("pods.test"),
        access=access,
        activity=activity,
        queries=queries,
        progress=MemoryProgress(),
        companions=MemoryCompanions(),
        cache=cluster,
        sign_outs=MemorySignOuts(),
        forwarding=Forwarding(scheme="https"),
        limits=GatewayLimits(session_requests=100_000),
        script=CompanionScript(),
    )
    ticket = (await access.issue_link(_UUID)).url.split("ticket=")[1].split("&")[0]
    given = await access.redeem(ticket, _UUID)
    async with serving(gateway, bind("the gateway", "127.0.0.1", port), drain=Drain()):
        print(json.dumps({"Host": _HOST, "Cookie": f"{COOKIE}={given}"}), flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2])))

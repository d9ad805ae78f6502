"""A second Redis beside the cluster's, for a failover and back."""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import redis.exceptions

from devcluster import components
from faults import truth
from faults.system import System
from stack.demo import free_port

_PATIENCE = 20.0


class Pair:
    """The cluster's Redis and a replica of it. New connections of the service go to whichever is the primary."""

    def __init__(self, system: System, spare: int) -> None:
        self._system = system
        self._first = system.cluster.redis_port
        self._spare = spare

    @classmethod
    @asynccontextmanager
    async def of(cls, system: System) -> AsyncIterator["Pair"]:
        """Start a replica that is in sync with the primary; it is stopped with the context."""
        port, password = free_port(), system.cluster.redis_password
        with tempfile.TemporaryDirectory() as folder:
            config = Path(folder) / "redis.conf"
            config.touch(mode=0o600)
            config.write_text(
                f"bind 127.0.0.1\nport {port}\ndir {folder}\nrequirepass {password}\nmasterauth {password}\n"
                f'replicaof 127.0.0.1 {system.cluster.redis_port}\nsave ""\nrepl-diskless-sync-delay 0\n'
            )
            server = str(components.redis_server(None))
            process = await asyncio.create_subprocess_exec(server, str(config), stdout=asyncio.subprocess.DEVNULL)
            try:
                pair = cls(system, port)
                async with truth.connected(pair._first, password) as first:
                    await first.config_set("masterauth", password)
                    await first.config_set("repl-diskless-sync-delay", "0")
                await pair._until(port, lambda info: info.get("master_link_status") == "up")
                yield pair
            finally:
                process.terminate()
                await process.wait()

    async def fail_over(self) -> None:
        await self._swap(self._first, self._spare)

    async def fail_back(self) -> None:
        """Make the cluster's own Redis the primary again, with everything written in the meantime."""
        await self._swap(self._spare, self._first)

    async def _swap(self, old: int, new: int) -> None:
        """Redis' own coordinated failover, in which the old primary waits until the new one has everything."""
        await self._until(new, lambda info: info.get("master_link_status") == "up")
        async with truth.connected(old, self._system.cluster.redis_password) as primary:
            await primary.execute_command("FAILOVER", "TO", "127.0.0.1", new, "TIMEOUT", "10000")
        await self._until(new, lambda info: info["role"] == "master")
        self._system.redis_port = new
        for replica in self._system.replicas:
            replica.redis.target = new  # existing connections stay with the old primary, which is read-only now

    async def _until(self, port: int, condition: Any) -> None:
        async with asyncio.timeout(_PATIENCE):
            while True:
                with contextlib.suppress(redis.exceptions.RedisError, OSError):
                    async with truth.connected(port, self._system.cluster.redis_password) as client:
                        if condition(await client.info("replication")):
                            return
                await asyncio.sleep(0.1)

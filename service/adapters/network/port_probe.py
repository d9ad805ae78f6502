"""The PortProbe port, by a TCP connection that sends nothing."""

import asyncio
import contextlib
import ipaddress
import platform
import re
import socket
import struct
import sys
from errno import ECONNREFUSED

from service.domain.diagnosis.ports import Reply

_SECONDS = 2.0
"""A pod answers within milliseconds. A SYN that is lost is sent again after one second."""
_RECVERR = {
    socket.AF_INET: (socket.IPPROTO_IP, 11),
    socket.AF_INET6: (socket.IPPROTO_IPV6, 25),
}
"""IP_RECVERR and IPV6_RECVERR: Linux keeps what ICMP says of a connection. Python has no names for them."""
_ERRQUEUE = 0x2000
"""MSG_ERRQUEUE"""
_EXTENDED_ERROR = struct.Struct("=IBBBxII")
"""struct sock_extended_err: errno, origin, ICMP's type and code, two more numbers."""
_ICMP_ORIGINS = frozenset({2, 3})
"""SO_EE_ORIGIN_ICMP and SO_EE_ORIGIN_ICMP6"""
_SINCE = (5, 8)
"""The first Linux that keeps ICMP's errors of a TCP connection that is not established yet."""


class TcpPortProbe:
    """See `service.domain.diagnosis.ports.PortProbe`."""

    def __init__(self, *, seconds: float = _SECONDS) -> None:
        self._seconds = seconds
        self._tells_apart = _tells_apart()

    async def reply(self, address: str, port: int) -> Reply:
        family = socket.AF_INET6 if ipaddress.ip_address(address).version == 6 else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as connection:
            connection.setblocking(False)
            with contextlib.suppress(OSError):
                connection.setsockopt(*_RECVERR[family], 1)
            try:
                async with asyncio.timeout(self._seconds):
                    await asyncio.get_running_loop().sock_connect(connection, (address, port))
            except OSError as error:
                return self._of(error, connection)
        return Reply.ACCEPTED

    def _of(self, error: OSError, connection: socket.socket) -> Reply:
        if _has_icmp(connection):
            return Reply.REJECTED
        if isinstance(error, TimeoutError):
            return Reply.NONE
        if error.errno != ECONNREFUSED:
            return Reply.UNREACHABLE
        return Reply.RESET if self._tells_apart else Reply.REFUSED


def _has_icmp(connection: socket.socket) -> bool:
    """Whether an ICMP error has come in for the connection. A TCP reset leaves none."""
    try:
        _, ancillary, _, _ = connection.recvmsg(1, 512, _ERRQUEUE)
    except OSError:
        return False
    return any(
        (level, kind) in _RECVERR.values()
        and len(data) >= _EXTENDED_ERROR.size
        and _EXTENDED_ERROR.unpack_from(data)[1] in _ICMP_ORIGINS
        for level, kind, data in ancillary
    )


def _tells_apart() -> bool:
    """Whether the kernel tells a TCP reset from an ICMP error. gVisor calls itself an old Linux, and does not."""
    found = re.match(r"(\d+)\.(\d+)", platform.release())
    return sys.platform == "linux" and found is not None and tuple(map(int, found.groups())) >= _SINCE

"""Binds the ports of the process before anything else starts, so that a port in use ends the start at once."""

import errno
import os
import socket

_BACKLOG = 128


class PortUnusable(Exception):
    """The message names the setting and the port, and says what to do."""


def bind(setting: str, host: str, port: int) -> list[socket.socket]:
    """One socket for each address of the host. It listens, so that no other process can still take the port;
    connections wait until it is served.

    Raises PortUnusable.
    """
    sockets: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, *_, address in dict.fromkeys(found):
            sockets.append(socket.create_server(address, family=family, backlog=_BACKLOG))
            sockets[-1].setblocking(False)
    except OSError as error:
        for listener in sockets:
            listener.close()
        raise PortUnusable(f"{setting}: {_why(error, host, port)}") from error
    return sockets


def _why(error: OSError, host: str, port: int) -> str:
    if isinstance(error, socket.gaierror):
        return f"the host {host} has no address; set one of this machine's"
    if error.errno == errno.EADDRINUSE:
        return f"port {port} of {host} is taken; end the process that listens there, or set another port"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"this user may not listen on port {port}; set one above 1023"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{host} is not an address of this machine; set one that is"
    return f"cannot listen on port {port} of {host}: {os.strerror(error.errno or 0)}"

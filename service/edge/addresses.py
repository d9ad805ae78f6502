"""Addresses of clients and proxies."""

import ipaddress
import re
from collections.abc import Sequence

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_WITH_PORT = re.compile(r"([0-9.]+):[0-9]+|\[([^\]]+)\](?::[0-9]+)?")
_SITE = 64
"""Bits of an IPv6 address that identify a site: a client that has one address there has all of them."""


def parse(text: str) -> Address | None:
    """Parse an address as proxies write it: with or without a port, IPv4 sometimes as IPv6. None if it is not one."""
    bare = _WITH_PORT.fullmatch(text)
    try:
        address = ipaddress.ip_address((bare[1] or bare[2]) if bare else text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def is_loopback_host(authority: str) -> bool:
    """Whether it is this very machine: an address or `localhost`, with or without a port."""
    host = authority.rpartition(":")[0] if re.search(r"(^[^:]*|\]):[0-9]*$", authority) else authority
    address = parse(authority)
    return host.lower() == "localhost" or (address is not None and address.is_loopback)


def authority(host: str) -> str:
    """The host in lower case, without a default port."""
    # Only ASCII is lower-cased: in Unicode, other letters become ASCII ones (the Kelvin sign becomes a k).
    return (host.lower() if host.isascii() else host).removesuffix(":443").removesuffix(":80")


def host_of(origin: str) -> str:
    """The host of an origin, in the same form."""
    return authority(origin.partition("://")[2])


def is_within(address: Address | None, networks: Sequence[Network]) -> bool:
    return address is not None and any(address in network for network in networks)


def client(address: Address) -> str:
    """The address by which a client is counted: an IPv4 address, or an IPv6 network of 64 bits."""
    if address.version == 4:
        return str(address)
    return str(ipaddress.ip_network((int(address) >> (128 - _SITE) << (128 - _SITE), _SITE)))

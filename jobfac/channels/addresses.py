"""Where a message may be sent: to no address by which machines tell secrets of their own."""

import ipaddress
import socket

from jobfac.channels.message import DeliveryError

METADATA = frozenset(
    ipaddress.ip_address(address)
    for address in ("fd00:ec2::254", "100.100.100.200", "192.0.0.192", "168.63.129.16", "fd20:ce::254")
)
"""Addresses of clouds' metadata services that are not link-local: of AWS, Alibaba, Oracle, Azure, Google."""

NAT64 = ipaddress.IPv6Network("64:ff9b::/96")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def is_local(address: Address) -> bool:
    """Whether an address is link-local or of a metadata service, in whatever form it is written."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and address in NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_local(inner)
    return address.is_link_local or address in METADATA


def resolve(host: str, port: int, allow_local: bool) -> list[str]:
    """The addresses of a host to which a message may go, best first. Whoever connects to one of these, and not to the
    name, goes where was checked.

    Raises:
        DeliveryError: the name is unknown, or leads to a refused address alone.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no name of a host"
        raise DeliveryError(f"the host {host} cannot be found: {why}") from None
    addresses = list(dict.fromkeys(str(info[4][0]) for info in found))
    allowed = [one for one in addresses if allow_local or not is_local(ipaddress.ip_address(one.partition("%")[0]))]
    if not allowed:
        raise DeliveryError(
            f"{host} is {addresses[0]}, a link-local or metadata address; "
            "set webhook_allow_local where the scheduler runs to send there"
        )
    return allowed

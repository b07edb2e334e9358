"""Checks of destination addresses. Blocks addresses where cloud machines expose their own secrets."""

import ipaddress
import socket

from jobfac.channels.message import DeliveryError

METADATA = frozenset(
    ipaddress.ip_address(address)
    for address in (
        "fd00:ec2::254", "fd00:ec2::23", "100.100.100.200", "192.0.0.192", "168.63.129.16", "fd20:ce::254",
        "fd00:42::42", "fd00:a9fe:a9fe::1",
    )
)  # fmt: skip
"""Cloud metadata addresses that are not link-local: AWS, Alibaba, Oracle, Azure, Google, Scaleway, Linode."""

NAT64 = (ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("64:ff9b:1::/48"))
"""NAT64 prefixes. These IPv6 addresses end with the IPv4 address to which a gateway translates them."""

COMPATIBLE = ipaddress.IPv6Network("::/96")
"""Obsolete IPv6 form of an IPv4 address: the IPv4 address with leading zeros."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def innermost(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 address represents, or the address itself."""
    if not isinstance(address, ipaddress.IPv6Address):
        return address
    inner = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
    translated = any(address in network for network in NAT64)
    if inner is None and (translated or (address in COMPATIBLE and int(address) > 0xFFFF)):
        inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address if inner is None else inner


def is_local(address: Address) -> bool:
    """Whether an address is link-local or a metadata service's, in any notation."""
    address = innermost(address)
    return address.is_link_local or address in METADATA


def is_private(address: Address) -> bool:
    """Whether an address is loopback, unspecified, private or otherwise not global, in any notation."""
    address = innermost(address)
    return address.is_loopback or address.is_private or address.is_unspecified or not address.is_global


def refusal(text: str, allow_local: bool, allow_private: bool = True) -> str | None:
    """Return why this address is refused, as the end of a sentence, or None if it is allowed."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return "no address, so that it cannot be checked"
    if is_local(address):
        remedy = "set webhook_allow_local where the scheduler runs to send there"
        return None if allow_local else f"a link-local or metadata address; {remedy}"
    if is_private(address) and not allow_private:
        return "a loopback or private address; set webhook_allow_private where the scheduler runs to send there"
    return None


def resolve(host: str, port: int, allow_local: bool, allow_private: bool = True) -> list[str]:
    """Return the allowed addresses of a host, best first.

    Connect to one of these addresses, not to the name: a second lookup of the name may return other addresses.

    Raises:
        DeliveryError: the name is unknown, or all its addresses are refused.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no name of a host"
        raise DeliveryError(f"the host {host} cannot be found: {why}") from None
    addresses = list(dict.fromkeys(str(info[4][0]) for info in found))
    refused = {address: refusal(address, allow_local, allow_private) for address in addresses}
    allowed = [address for address in addresses if refused[address] is None]
    if not allowed:
        raise DeliveryError(f"{host} is {addresses[0]}, {refused[addresses[0]]}")
    return allowed

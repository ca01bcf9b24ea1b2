"""Client addresses as keys of limits."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv6Address, IPv6Network, ip_address

SITE_BITS = 64
"""The owner of one IPv6 address has all addresses with the same first bits. RFC 6177 §2."""


@lru_cache(maxsize=1024)
def one_client(address: str) -> str:
    """Return what all addresses of one client have in common; other text is returned unchanged.

    >>> one_client("2001:db8:1:2:aaaa::1"), one_client("::ffff:192.0.2.7"), one_client("192.0.2.7")
    ('2001:db8:1:2::/64', '192.0.2.7', '192.0.2.7')
    """
    try:
        found = ip_address(address)
    except ValueError:
        return address
    if not isinstance(found, IPv6Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(IPv6Network((int(found), SITE_BITS), strict=False))

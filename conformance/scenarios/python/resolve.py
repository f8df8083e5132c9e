"""Names below the front's domain are on this machine: it stands in for a wildcard DNS record."""

import os
import socket

_real = socket.getaddrinfo


def _resolve(host, *args, **kwargs):
    domain = os.environ.get("E2B_CONFORMANCE_FRONT")
    name = host.decode() if isinstance(host, bytes) else host
    if domain and name and name.endswith("." + domain):
        host = "127.0.0.1"
    return _real(host, *args, **kwargs)


def install():
    socket.getaddrinfo = _resolve

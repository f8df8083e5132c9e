"""Names below the front's domain lead to the front: it stands in for a wildcard DNS record and an https port."""

import asyncio
import os
import socket

# Marks an address that was resolved here on its way to a connect that knows no name any more.
MARK = "127.82.66.1"

_getaddrinfo = socket.getaddrinfo
_create_connection = socket.create_connection
_loop_connection = asyncio.base_events.BaseEventLoop.create_connection


def _is_below(host):
    domain = os.environ.get("E2B_CONFORMANCE_FRONT")
    name = host.decode() if isinstance(host, bytes) else host
    return bool(domain and name) and (name == MARK or name.endswith("." + domain))


def _front():
    return "127.0.0.1", int(os.environ["E2B_CONFORMANCE_FRONT_PORT"])


def _resolve(host, *args, **kwargs):
    return _getaddrinfo(MARK if _is_below(host) else host, *args, **kwargs)


def _connect(address, *args, **kwargs):
    return _create_connection(_front() if _is_below(address[0]) else address, *args, **kwargs)


async def _connect_loop(loop, factory, host=None, port=None, **kwargs):
    if _is_below(host):
        if kwargs.get("ssl"):
            kwargs.setdefault("server_hostname", host)
        host, port = _front()
    return await _loop_connection(loop, factory, host, port, **kwargs)


def install():
    socket.getaddrinfo = _resolve
    socket.create_connection = _connect
    asyncio.base_events.BaseEventLoop.create_connection = _connect_loop

"""Egress: refused unless allowed, and never to the host, to neighbours or to special addresses.

The "outside" is a network namespace on the daemon's host with two addresses of a documentation
network (RFC 5737), which nobody on the Internet has.
"""

import os
import time

import pytest
from e2b import CommandExitException
from support import eventually

NAMESPACE = f"e2e-{os.getpid()}"
GATEWAY, FIRST, SECOND = "203.0.113.1", "203.0.113.2", "203.0.113.3"
ALL = "0.0.0.0/0"

# Answers TCP with the caller's address, and UDP by sending the datagram back in capitals.
SERVER = """
import socket, sys, threading
def udp():
    peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    peer.bind(("0.0.0.0", 8000))
    while True:
        data, who = peer.recvfrom(2048)
        peer.sendto(data.upper(), who)
threading.Thread(target=udp, daemon=True).start()
tcp = socket.create_server(("0.0.0.0", 8000))
while True:
    peer, who = tcp.accept()
    peer.sendall(("hello " + who[0] + "\\n").encode())
    peer.close()
"""

UDP = (
    "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(3); "
    "s.sendto(b'ping', ({!r}, 8000)); print(s.recv(99).decode())"
)


@pytest.fixture(scope="module", autouse=True)
def outside(host):
    """The namespace with its server."""
    host.run(
        f"ip netns add {NAMESPACE} && ip link add e2e0 type veth peer name e2e1 netns {NAMESPACE} && "
        f"ip addr add {GATEWAY}/24 dev e2e0 && ip link set e2e0 up && "
        f"ip -n {NAMESPACE} addr add {FIRST}/24 dev e2e1 && ip -n {NAMESPACE} addr add {SECOND}/24 dev e2e1 && "
        f"ip -n {NAMESPACE} link set e2e1 up && ip -n {NAMESPACE} link set lo up"
    )
    server = host.start("ip", "netns", "exec", NAMESPACE, "python3", "-c", SERVER)
    try:
        probe = f"python3 -c 'import socket; socket.create_connection((\"{FIRST}\", 8000), 2)' && echo up"
        eventually(lambda: host.run(probe, check=False), seconds=60, every=0.5)
        yield
    finally:
        host.run(f"ip netns pids {NAMESPACE} | xargs -r kill -9; ip link del e2e0; ip netns del {NAMESPACE}", check=False)
        server.kill()
        server.wait()


def connect(sandbox, address: str, port: int = 8000) -> str:
    """What the server said, or `refused`, `timeout` or another word of what went wrong."""
    script = (
        "import socket\n"
        f"try: print(socket.create_connection(({address!r}, {port}), 5).recv(99).decode().split()[0])\n"
        "except ConnectionRefusedError: print('refused')\n"
        "except TimeoutError: print('timeout')\n"
        "except OSError as error: print(error.strerror)\n"
    )
    sandbox.files.write("/tmp/connect.py", script)
    return sandbox.commands.run("python3 /tmp/connect.py").stdout.strip()


def test_without_internet_access_everything_is_refused_at_once(make):
    sandbox = make(allow_internet_access=False)
    begun = time.monotonic()
    assert connect(sandbox, FIRST) == "refused"
    assert time.monotonic() - begun < 20, "refused, not timed out"
    with pytest.raises(CommandExitException):
        sandbox.commands.run(f'python3 -c "{UDP.format(FIRST)}"')


def test_with_internet_access_the_outside_is_reached(make):
    sandbox = make(allow_internet_access=True)
    assert connect(sandbox, FIRST) == "hello"
    assert sandbox.commands.run(f'python3 -c "{UDP.format(FIRST)}"').stdout == "PING\n"


def test_allowed_addresses_only(make):
    sandbox = make(network={"allow_out": [f"{FIRST}/32"], "deny_out": [ALL]})
    assert connect(sandbox, FIRST) == "hello"
    assert connect(sandbox, SECOND) == "refused"


def test_an_allowed_network(make):
    sandbox = make(network={"allow_out": ["203.0.113.0/24"], "deny_out": [ALL]})
    assert connect(sandbox, FIRST) == "hello"
    assert connect(sandbox, SECOND) == "hello"


def test_a_denied_address(make):
    sandbox = make(allow_internet_access=True, network={"deny_out": [f"{SECOND}/32"]})
    assert connect(sandbox, FIRST) == "hello"
    assert connect(sandbox, SECOND) == "refused"


@pytest.mark.parametrize("address", ["169.254.169.254", "10.0.0.1", "172.16.0.1", "192.168.0.1", "100.64.0.1"])
def test_special_addresses_stay_closed_whatever_is_allowed(make, address):
    sandbox = make(allow_internet_access=True, network={"allow_out": [ALL]})
    begun = time.monotonic()
    assert connect(sandbox, address, 80) == "refused"
    assert time.monotonic() - begun < 20


def test_the_host_is_not_reached(make, host):
    port = int(os.environ["E2B_API_URL"].rsplit(":", 1)[1]) if os.environ.get("SANDBOXD_HOST") != "lab" else 3000
    sandbox = make(allow_internet_access=True, network={"allow_out": [ALL]})
    gateway = sandbox.commands.run("ip route | awk '/^default/ {print $3}'").stdout.strip()
    own = host.run("ip -4 -o addr show scope global | awk '{print $4}' | cut -d/ -f1").split()
    for address in [gateway, "10.213.0.1", "10.213.0.2", *own]:
        if address == GATEWAY:
            continue  # the test's own end of the "outside"
        assert connect(sandbox, address, port) in ("refused", "Network is unreachable"), address


def test_neighbours_are_not_reached(make):
    one, two = make(allow_internet_access=True), make(allow_internet_access=True)
    two.commands.run("python3 -m http.server 8000 --bind 0.0.0.0", background=True)
    eventually(lambda: ":8000" in two.commands.run("ss -Hltn").stdout, seconds=60)
    # Identity addresses are 10.213.0.2 upwards, in the order of slots.
    for last in range(2, 10):
        assert connect(one, f"10.213.0.{last}") == "refused"


def test_ipv6_goes_nowhere(make):
    sandbox = make(allow_internet_access=True)
    assert connect(sandbox, "2001:db8::1") in ("Network is unreachable", "refused", "Cannot assign requested address")


def test_a_sandbox_cannot_take_another_address(make):
    sandbox = make(allow_internet_access=True)
    sandbox.commands.run("ip addr add 169.254.100.6/32 dev eth0 && ip route add 203.0.113.0/24 via 169.254.100.1 src 169.254.100.6", user="root")
    assert connect(sandbox, FIRST) != "hello", "a forged source address came through"
    sandbox.commands.run("ip route del 203.0.113.0/24 via 169.254.100.1", user="root")
    assert connect(sandbox, FIRST) == "hello"


def test_the_loopback_is_the_guests_own(make):
    sandbox = make(allow_internet_access=False)
    sandbox.commands.run("python3 -m http.server 8123 --bind 127.0.0.1", background=True)
    eventually(lambda: ":8123" in sandbox.commands.run("ss -Hltn").stdout, seconds=60)
    assert sandbox.commands.run("curl -so /dev/null -w '%{http_code}' http://127.0.0.1:8123/").stdout == "200"

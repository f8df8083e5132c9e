# e2b-conformance probe
"""What a program in a sandbox sees and reaches: `probe.py WHAT ARGUMENTS`, one JSON object on standard output.

Needs nothing but python3 and its standard library.
"""

import json
import os
import socket
import struct
import sys
import threading
import time
import uuid


def read(path):
    try:
        with open(path, "rb") as file:
            return file.read().decode("utf-8", "replace").strip()
    except OSError:
        return ""


def draw():
    with open("/dev/urandom", "rb", buffering=0) as file:
        urandom = file.read(32)
    return {
        "getrandom": os.getrandom(32).hex(),
        "urandom": urandom.hex(),
        "uuid": str(uuid.uuid4()),
        "kernel_uuid": read("/proc/sys/kernel/random/uuid"),
    }


def identity():
    return {
        "boot_id": read("/proc/sys/kernel/random/boot_id"),
        "machine_id": read("/etc/machine-id"),
        "hostname": socket.gethostname(),
    }


def clock():
    return {"time": time.time(), "monotonic": time.monotonic()}


def steps():
    """How often the monotonic clock went back in many readings."""
    last, back = time.monotonic(), 0
    for _ in range(20000):
        now = time.monotonic()
        back += now < last
        last = now
    return {"back": back, "last": last}


def size():
    pages = os.statvfs("/")
    memory = next(line for line in read("/proc/meminfo").splitlines() if line.startswith("MemTotal"))
    return {
        "cpus": len(os.sched_getaffinity(0)),
        "memory": int(memory.split()[1]) * 1024,
        "disk": pages.f_blocks * pages.f_frsize,
    }


def route():
    """Interface and gateway of the default route."""
    for line in read("/proc/net/route").splitlines()[1:]:
        fields = line.split()
        if fields[1] == "00000000":
            return fields[0], socket.inet_ntoa(bytes.fromhex(fields[2])[::-1])
    return "", ""


def addresses():
    own = ""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        try:
            peer.connect(("198.51.100.1", 9))
            own = peer.getsockname()[0]
        except OSError:
            pass
    return {"address": own, "gateway": route()[1]}


def answering(seconds, *places):
    """Which of HOST:PORT answer an HTTP request with anything at all. A connection alone says nothing: proxies accept."""
    found = []

    def ask(place):
        host, port = place.rsplit(":", 1)
        try:
            with socket.create_connection((host, int(port)), float(seconds)) as peer:
                peer.sendall(b"GET / HTTP/1.0\r\n\r\n")
                if peer.recv(1):
                    found.append(place)
        except OSError:
            pass

    threads = [threading.Thread(target=ask, args=(place,)) for place in places]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"answering": sorted(found)}


def reach(seconds, url, name="", source=""):
    """Whether a web server answers; `name` is what it is called in SNI or Host. Certificates are shown, not judged."""
    scheme, place = url.split("://")
    host, _, port = place.partition(":")
    port = int(port or {"http": 80, "https": 443}[scheme])
    try:
        peer = socket.create_connection((host, port), float(seconds), (source, 0) if source else None)
        with peer:
            if source and peer.getsockname()[0] != source:
                return {"reached": False, "said": "the kernel took another source address"}
            if scheme == "https":
                import ssl

                context = ssl.create_default_context()
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
                with context.wrap_socket(peer, server_hostname=name or None) as secured:
                    said = secured.getpeercert(True).decode("latin-1")
                    return {"reached": True, "said": printable(said)}
            peer.sendall(f"GET / HTTP/1.1\r\nHost: {name or host}\r\nConnection: close\r\n\r\n".encode())
            said = peer.recv(4096).decode("latin-1")
            return {"reached": said.startswith("HTTP/"), "said": printable(said)}
    except (OSError, ValueError) as error:
        return {"reached": False, "said": repr(error)}


def printable(text):
    return "".join(c if " " <= c <= "~" else " " for c in text)[:3000]


def dns(seconds, server, name):
    """Whether a resolver answers at all."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    query = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00" + labels + b"\x00\x00\x01\x00\x01"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.settimeout(float(seconds))
        try:
            peer.sendto(query, (server, 53))
            return {"answered": peer.recv(512)[:2] == query[:2]}
        except OSError as error:
            return {"answered": False, "said": repr(error)}


def source(seconds, url):
    """Whether a web server answers a packet from an address that is not the sandbox's. Needs root."""
    import fcntl

    own = addresses()["address"]
    interface = route()[0]
    # The same host in the next network of four addresses, which is how sandboxes are often numbered.
    neighbour = own.rsplit(".", 1)[0] + "." + str(int(own.rsplit(".", 1)[1]) ^ 4) if own else ""
    tried = {}
    for number, address in enumerate(["198.51.100.7", neighbour]):
        if not address or not interface:
            continue
        alias = f"{interface}:{number + 7}".encode()
        request = struct.pack("16sH2s4s8s", alias, socket.AF_INET, b"", socket.inet_aton(address), b"")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
            try:
                fcntl.ioctl(control, 0x8916, request)
            except OSError as error:
                tried[address] = {"reached": False, "said": repr(error)}
                continue
        tried[address] = reach(seconds, url, "", address)
    return {"tried": tried}


def kernel(value):
    """Sets a value that a kernel has once, unless it is `-`, and reads it."""
    path = "/proc/sys/kernel/panic"
    written = False
    if value != "-":
        try:
            with open(path, "w") as file:
                file.write(value)
            written = True
        except OSError:
            pass
    return {"written": written, "value": read(path)}


def sees(path, backwards):
    """Whether a file is there, and a process whose command line has a word. The word comes backwards, so as not to be seen here."""
    word = backwards[::-1].encode()
    found = False
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                found = found or word in file.read()
        except OSError:
            pass
    return {"file": os.path.exists(path), "process": found}


def forks(seconds):
    """Makes processes until no more are given, or the time is over. They stay for as long again."""
    until, made = time.monotonic() + float(seconds), 0
    try:
        while time.monotonic() < until:
            if os.fork() == 0:
                for number in range(3):
                    os.close(number)
                time.sleep(float(seconds))
                os._exit(0)
            made += 1
    except OSError:
        pass
    return {"made": made}


def hog(mebibytes):
    """Takes memory until there is no more."""
    taken = []
    try:
        for _ in range(int(mebibytes) // 16):
            taken.append(b"x" * (16 << 20))
    except MemoryError:
        pass
    return {"taken": len(taken) * 16}


def fill(path, mebibytes):
    """Takes disk until there is no more."""
    taken, why = 0, ""
    with open(path, "wb") as file:
        for step in (256, 16, 1):
            try:
                while taken + step <= int(mebibytes):
                    os.posix_fallocate(file.fileno(), taken << 20, step << 20)
                    taken += step
            except OSError as error:
                why = os.strerror(error.errno)
    return {"taken": taken, "said": why}


if __name__ == "__main__":
    what = {
        "addresses": addresses,
        "answering": answering,
        "clock": clock,
        "dns": dns,
        "draw": draw,
        "fill": fill,
        "forks": forks,
        "hog": hog,
        "identity": identity,
        "kernel": kernel,
        "reach": reach,
        "sees": sees,
        "size": size,
        "source": source,
        "steps": steps,
    }[sys.argv[1]]
    print(json.dumps(what(*sys.argv[2:])))

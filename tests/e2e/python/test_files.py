"""Files: read, write, list, move, remove, large, compressed, signed."""

import datetime
import gzip
import hashlib
import io
import uuid

import httpx
import pytest
from e2b import FileType, InvalidArgumentException, NotFoundException

ENVD = 49983


@pytest.fixture
def folder(sandbox):
    path = f"/home/user/{uuid.uuid4().hex}"
    sandbox.files.make_dir(path)
    return path


def test_text_bytes_and_stream(sandbox, folder):
    path = f"{folder}/file"
    written = sandbox.files.write(path, "grüße\n")
    assert (written.name, written.path, written.type) == ("file", path, FileType.FILE)
    assert sandbox.files.read(path) == "grüße\n"
    assert bytes(sandbox.files.read(path, format="bytes")) == "grüße\n".encode()
    assert b"".join(sandbox.files.read(path, format="stream")) == "grüße\n".encode()


def test_every_byte_survives(sandbox, folder):
    data = bytes(range(256)) * 300
    sandbox.files.write(f"{folder}/binary", data)
    assert bytes(sandbox.files.read(f"{folder}/binary", format="bytes")) == data


def test_empty_file(sandbox, folder):
    sandbox.files.write(f"{folder}/empty", b"")
    assert sandbox.files.read(f"{folder}/empty") == ""
    assert sandbox.files.get_info(f"{folder}/empty").size == 0


def test_overwriting_truncates(sandbox, folder):
    sandbox.files.write(f"{folder}/file", "long content")
    sandbox.files.write(f"{folder}/file", "short")
    assert sandbox.files.read(f"{folder}/file") == "short"


def test_parents_are_made_and_owned(sandbox, folder):
    sandbox.files.write(f"{folder}/a/b/c.txt", "deep")
    info = sandbox.files.get_info(f"{folder}/a/b")
    assert (info.type, info.owner, info.group, info.permissions) == (FileType.DIR, "user", "user", "drwxr-xr-x")
    info = sandbox.files.get_info(f"{folder}/a/b/c.txt")
    assert (info.owner, info.mode, info.permissions, info.size) == ("user", 0o644, "-rw-r--r--", 4)
    age = datetime.datetime.now(datetime.timezone.utc) - info.modified_time
    assert abs(age.total_seconds()) < 60


def test_as_root(sandbox):
    sandbox.files.write("/etc/made-by-root", "x", user="root")
    assert sandbox.files.get_info("/etc/made-by-root").owner == "root"
    sandbox.files.remove("/etc/made-by-root", user="root")


def test_relative_paths_are_under_home(sandbox):
    sandbox.files.write("relative.txt", "here")
    assert sandbox.files.read("/home/user/relative.txt") == "here"
    sandbox.files.remove("relative.txt")


def test_several_files_at_once(sandbox, folder):
    names = ["one", "sub/two", "with space & ümlaut"]
    written = sandbox.files.write_files([{"path": f"{folder}/{n}", "data": n} for n in names])
    assert [entry.path for entry in written] == [f"{folder}/{n}" for n in names]
    assert [sandbox.files.read(f"{folder}/{n}") for n in names] == names


def test_file_like_objects(sandbox, folder):
    sandbox.files.write(f"{folder}/io", io.BytesIO(b"from a file object"))
    assert sandbox.files.read(f"{folder}/io") == "from a file object"


def test_list_by_depth(sandbox, folder):
    sandbox.files.write_files([{"path": f"{folder}/{n}", "data": ""} for n in ["b", "a/x", "a/y/z"]])
    below = lambda depth: [e.path.removeprefix(folder + "/") for e in sandbox.files.list(folder, depth=depth)]  # noqa: E731
    assert below(1) == ["a", "b"]
    assert below(2) == ["a", "a/x", "a/y", "b"]
    assert below(3) == ["a", "a/x", "a/y", "a/y/z", "b"]
    kinds = {e.name: e.type for e in sandbox.files.list(folder)}
    assert kinds == {"a": FileType.DIR, "b": FileType.FILE}


def test_links(sandbox, folder):
    sandbox.files.write(f"{folder}/target", "t")
    sandbox.commands.run(f"ln -s target {folder}/link")
    info = sandbox.files.get_info(f"{folder}/link")
    assert info.type == FileType.SYMLINK
    assert info.symlink_target == f"{folder}/target"
    assert sandbox.files.read(f"{folder}/link") == "t"


def test_what_is_missing(sandbox, folder):
    for call in (sandbox.files.read, sandbox.files.get_info, sandbox.files.list):
        with pytest.raises(NotFoundException):
            call(f"{folder}/nothing")
    assert sandbox.files.exists(f"{folder}/nothing") is False
    with pytest.raises(NotFoundException):
        sandbox.files.rename(f"{folder}/nothing", f"{folder}/else")


def test_what_is_of_the_wrong_kind(sandbox, folder):
    with pytest.raises(InvalidArgumentException):
        sandbox.files.read(folder)
    with pytest.raises(InvalidArgumentException):
        sandbox.files.write(folder, "a folder is there")
    sandbox.files.write(f"{folder}/file", "")
    with pytest.raises(InvalidArgumentException):
        sandbox.files.list(f"{folder}/file")


def test_make_dir_rename_exists_remove(sandbox, folder):
    assert sandbox.files.make_dir(f"{folder}/new/deep") is True
    assert sandbox.files.make_dir(f"{folder}/new/deep") is False
    sandbox.files.write(f"{folder}/new/deep/file", "moved")
    moved = sandbox.files.rename(f"{folder}/new", f"{folder}/there/renamed")
    assert (moved.path, moved.type) == (f"{folder}/there/renamed", FileType.DIR)
    assert sandbox.files.read(f"{folder}/there/renamed/deep/file") == "moved"
    assert sandbox.files.exists(f"{folder}/new") is False
    sandbox.files.remove(f"{folder}/there")
    assert sandbox.files.exists(f"{folder}/there") is False
    sandbox.files.remove(f"{folder}/there")


def test_a_folder_of_the_template_can_be_renamed(sandbox):
    """Overlayfs answers EXDEV to this unless it may redirect folders."""
    sandbox.files.rename("/usr/share/git-core", "/usr/share/git-moved", user="root")
    assert sandbox.files.exists("/usr/share/git-moved/templates")
    sandbox.files.rename("/usr/share/git-moved", "/usr/share/git-core", user="root")


def test_metadata(sandbox, folder):
    written = sandbox.files.write(f"{folder}/file", "x", metadata={"Origin": "test", "n": "1"})
    assert written.metadata == {"origin": "test", "n": "1"}
    assert sandbox.files.get_info(f"{folder}/file").metadata == {"origin": "test", "n": "1"}
    sandbox.files.write(f"{folder}/file", "y")
    assert not sandbox.files.get_info(f"{folder}/file").metadata, "an upload replaces the whole set"


def test_gzip_both_ways(sandbox, folder):
    text = "compressible " * 50_000
    sandbox.files.write(f"{folder}/file", text, gzip=True)
    assert sandbox.files.get_info(f"{folder}/file").size == len(text)
    assert sandbox.files.read(f"{folder}/file", gzip=True) == text


def test_octet_stream(sandbox, folder):
    sandbox.files.write(f"{folder}/file", b"raw body", use_octet_stream=True)
    assert sandbox.files.read(f"{folder}/file") == "raw body"


def test_200_megabytes_up_and_down(make):
    sandbox = make()
    block = hashlib.sha256(b"seed").digest() * 32768  # 1 MiB
    up = hashlib.sha256()

    def blocks():
        for number in range(200):
            data = number.to_bytes(8, "big") + block[8:]
            up.update(data)
            yield data

    sandbox.files.write("/home/user/large", blocks(), request_timeout=280)
    size = 200 * len(block)
    assert sandbox.files.get_info("/home/user/large").size == size
    there = sandbox.commands.run("sha256sum /home/user/large", timeout=120).stdout.split()[0]
    assert there == up.hexdigest()

    down, received = hashlib.sha256(), 0
    for chunk in sandbox.files.read("/home/user/large", format="stream", request_timeout=280):
        down.update(chunk)
        received += len(chunk)
    assert received == size
    assert down.hexdigest() == up.hexdigest()


def route(sandbox) -> dict[str, str]:
    """With one fixed sandbox URL, a plain client must say which sandbox it means."""
    return {"E2b-Sandbox-Id": sandbox.sandbox_id, "E2b-Sandbox-Port": str(ENVD)}


def test_signed_urls(sandbox, folder):
    path = f"{folder}/signed file+1"
    url = sandbox.upload_url(path, use_signature_expiration=60)
    with httpx.Client(headers=route(sandbox), timeout=60) as plain:
        answer = plain.post(url, files={"file": ("ignored", b"by a plain client")})
        assert answer.status_code == 200, answer.text
        assert answer.json() == [{"name": "signed file+1", "path": path, "type": "file"}]
        answer = plain.get(sandbox.download_url(path))
        assert (answer.status_code, answer.content) == (200, b"by a plain client")


def test_signatures_are_checked(sandbox, folder):
    path = f"{folder}/secret"
    sandbox.files.write(path, "secret")
    good = sandbox.download_url(path)
    cases = {
        "invalid signature": good.replace("v1_", "v1_x"),
        "missing signature query parameter": good.split("&signature=")[0].split("?signature=")[0],
        "signature is already expired": sandbox.download_url(path, use_signature_expiration=-5),
    }
    with httpx.Client(headers=route(sandbox), timeout=60) as plain:
        for message, url in cases.items():
            answer = plain.get(url)
            assert answer.status_code == 401, (message, answer.text)
            assert message in answer.json()["message"]
        # Signed for reading is not signed for writing.
        answer = plain.post(good, files={"file": ("f", b"overwritten")})
        assert answer.status_code == 401
    assert sandbox.files.read(path) == "secret"


def test_without_the_token_nothing_is_served(sandbox, edge):
    plain = edge(sandbox, ENVD)
    assert plain.get("/health").status_code == 204
    answer = plain.get("/files", params={"path": "/etc/passwd"})
    assert answer.status_code == 401
    answer = plain.post("/process.Process/List", json={}, headers={"Connect-Protocol-Version": "1"})
    assert answer.status_code == 401
    assert plain.post("/init", json={}).status_code == 404, "only the host may initialise an agent"


def test_ranges_and_types(sandbox, folder, edge):
    sandbox.files.write(f"{folder}/page.html", "0123456789")
    url = sandbox.download_url(f"{folder}/page.html")
    plain = edge(sandbox, ENVD)
    whole = plain.get(url, headers={"Accept-Encoding": "identity"})
    assert whole.headers["content-type"].startswith("text/html")
    part = plain.get(url, headers={"Range": "bytes=2-5", "Accept-Encoding": "identity"})
    assert (part.status_code, part.text) == (206, "2345")
    assert part.headers["content-range"] == "bytes 2-5/10"
    packed = plain.get(url, headers={"Accept-Encoding": "gzip"})
    assert packed.text == "0123456789"


def test_a_gzip_bomb_does_not_end_the_agent(make):
    """More zeroes than the guest has memory, in less than a megabyte: the disk may take it, the agent's memory may not."""
    sandbox = make()
    memory = sandbox.get_info().memory_mb
    bomb = gzip.compress(bytes(1 << 20), 9) * (memory + memory // 4)
    url = sandbox.upload_url("/home/user/bomb")
    with httpx.Client(headers=route(sandbox), timeout=280) as plain:
        answer = plain.post(
            url,
            content=bomb,
            headers={"Content-Type": "application/octet-stream", "Content-Encoding": "gzip"},
        )
    assert answer.status_code in (200, 400, 413, 507), answer.text
    assert sandbox.is_running()
    assert sandbox.commands.run("echo alive").stdout == "alive\n"

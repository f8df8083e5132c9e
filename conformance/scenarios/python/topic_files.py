"""Files: write, read, list, move, remove."""

from e2b import NotFoundException

from harness import expect, generation, raises, same, step, word


def kind(entry):
    return getattr(entry.type, "value", entry.type)


@step("write")
def write(topic):
    files, name = topic.shared().files, word()
    files.write(f"{name}/deep/a.txt", "hello ✓")
    same("read", files.read(f"{name}/deep/a.txt"), "hello ✓")
    files.write(f"{name}/deep/a.txt", "hi")
    same("read after a shorter write", files.read(f"{name}/deep/a.txt"), "hi")


@step("bytes")
def as_bytes(topic):
    files, name = topic.shared().files, word()
    content = bytes(range(256)) * 40
    files.write(name, content)
    same("read as bytes", bytes(files.read(name, format="bytes")) == content, True)


@step("empty")
def empty(topic):
    files, name = topic.shared().files, word()
    files.write(name, "")
    same("read", files.read(name), "")


@step("write-many")
def write_many(topic):
    files, name = topic.shared().files, word()
    entries = [{"path": f"{name}/{one}", "data": one} for one in ("a", "b")]
    written = files.write(entries) if generation() < 3 else files.write_files(entries)
    same("answers", len(written), 2)
    same("read", [files.read(f"{name}/{one}") for one in ("a", "b")], ["a", "b"])


@step("read-missing")
def read_missing(topic):
    raises(NotFoundException, topic.shared().files.read, "no-such-" + word())


@step("exists")
def exists(topic):
    files, name = topic.shared().files, word()
    same("exists before", files.exists(name), False)
    files.write(name, "x")
    same("exists after", files.exists(name), True)


@step("list")
def listing(topic):
    files, name = topic.shared().files, word()
    files.write(f"{name}/file", "x")
    files.make_dir(f"{name}/dir")
    found = sorted((one.name, kind(one), one.path) for one in files.list(name))
    home = f"/home/user/{name}"
    same("entries", found, [("dir", "dir", f"{home}/dir"), ("file", "file", f"{home}/file")])


@step("info")
def info(topic):
    files, name = topic.shared().files, word()
    files.write(name, "12345")
    got = files.get_info(name)
    same("name", got.name, name)
    same("path", got.path, f"/home/user/{name}")
    same("type", kind(got), "file")
    same("size", got.size, 5)
    same("mode", got.mode, 0o644)
    same("permissions", got.permissions, "-rw-r--r--")
    same("owner", got.owner, "user")


@step("rename")
def rename(topic):
    files, name = topic.shared().files, word()
    files.write(name, "x")
    entry = files.rename(name, f"{name}-new")
    same("name", entry.name, f"{name}-new")
    same("old and new exist", [files.exists(name), files.exists(f"{name}-new")], [False, True])


@step("remove")
def remove(topic):
    files, name = topic.shared().files, word()
    files.write(f"{name}/a", "x")
    files.remove(name)
    same("exists", files.exists(name), False)


@step("make-dir")
def make_dir(topic):
    files, name = topic.shared().files, word()
    same("a new directory", files.make_dir(f"{name}/deep"), True)
    same("one that is there", files.make_dir(f"{name}/deep"), False)


@step("user")
def user(topic):
    box, name = topic.shared(), word()
    box.files.write(name, "x", "root")
    same("in root's home", box.commands.run(f"cat /root/{name}", user="root").stdout, "x")

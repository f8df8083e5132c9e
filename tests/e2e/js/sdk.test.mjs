// The scenarios of the Python side once more with the JavaScript SDK, where it goes other ways on
// the wire: streaming watches, fetch-based streams, its own defaults.
//
//   E2B_API_URL=… E2B_API_KEY=… E2B_SANDBOX_URL=… node --test tests/e2e/js/
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { CodeSandbox, CommandExitError, FileType, FilesystemEventType, NotFoundError, Sandbox } from "../../js-sdk.mjs";

for (const name of ["E2B_API_URL", "E2B_API_KEY", "E2B_SANDBOX_URL"]) {
  if (!process.env[name]) throw new Error(`set ${name}: \`cargo xtask up\` prints it`);
}

// A lab host is 15-20 times slower than hardware.
const options = { timeout: 300_000 };

async function eventually(check, ms = 20_000) {
  const deadline = Date.now() + ms;
  for (;;) {
    const result = await check();
    if (result) return result;
    assert.ok(Date.now() < deadline, `not within ${ms} ms`);
    await sleep(100);
  }
}

describe("a base sandbox", options, () => {
  let sandbox;
  before(async () => {
    sandbox = await Sandbox.create("base", { timeoutMs: 900_000, metadata: { from: "js" }, envs: { WHO: "js" } });
  }, options);
  after(() => sandbox?.kill(), options);

  test("info, list and time-out", options, async () => {
    const info = await sandbox.getInfo();
    assert.equal(info.sandboxId, sandbox.sandboxId);
    assert.equal(info.templateId, "base");
    assert.deepEqual(info.metadata, { from: "js" });
    assert.equal(info.state, "running");
    const listed = await Sandbox.list({ query: { metadata: { from: "js" } } }).nextItems();
    assert.ok(listed.some((each) => each.sandboxId === sandbox.sandboxId));
    await sandbox.setTimeout(600_000);
    const left = (await sandbox.getInfo()).endAt.getTime() - Date.now();
    assert.ok(left > 570_000 && left < 601_000, `${left} ms left`);
  });

  test("commands: output, streams, failure, envs, cwd, user", options, async () => {
    const heard = [];
    const result = await sandbox.commands.run("echo $WHO $X; pwd; id -un; echo oops >&2", {
      envs: { X: "1" },
      cwd: "/tmp",
      user: "root",
      onStdout: (text) => heard.push(text),
    });
    assert.equal(result.stdout, "js 1\n/tmp\nroot\n");
    assert.equal(result.stderr, "oops\n");
    assert.equal(heard.join(""), result.stdout);
    await assert.rejects(sandbox.commands.run("exit 7"), (error) => {
      assert.ok(error instanceof CommandExitError);
      assert.equal(error.exitCode, 7);
      return true;
    });
  });

  test("commands: background, stdin, list, kill", options, async () => {
    const cat = await sandbox.commands.run("cat", { background: true, stdin: true });
    await sandbox.commands.sendStdin(cat.pid, "over and out");
    await sandbox.commands.closeStdin(cat.pid);
    assert.equal((await cat.wait()).stdout, "over and out");

    const sleeper = await sandbox.commands.run("sleep 600", { background: true });
    assert.ok((await sandbox.commands.list()).some((each) => each.pid === sleeper.pid));
    assert.equal(await sleeper.kill(), true);
    await assert.rejects(sleeper.wait(), CommandExitError);
    assert.equal(await sandbox.commands.kill(sleeper.pid), false);
  });

  test("commands: a time-out kills", options, async () => {
    await assert.rejects(sandbox.commands.run("sleep 876", { timeoutMs: 3_000 }), { name: "TimeoutError" });
    await eventually(async () => (await sandbox.commands.run("pgrep -fc 'sleep [8]76' || true")).stdout.trim() === "0");
  });

  test("a terminal", options, async () => {
    let seen = "";
    const decoder = new TextDecoder();
    const terminal = await sandbox.pty.create({
      cols: 80,
      rows: 24,
      onData: (data) => (seen += decoder.decode(data, { stream: true })),
      timeoutMs: 120_000,
    });
    const type = (text) => sandbox.pty.sendInput(terminal.pid, new TextEncoder().encode(text));
    await type("stty size\n");
    await eventually(() => seen.includes("24 80"));
    await sandbox.pty.resize(terminal.pid, { cols: 120, rows: 50 });
    await type("stty size\n");
    await eventually(() => seen.includes("50 120"));
    await type("exit\n");
    assert.equal((await terminal.wait()).exitCode, 0);
  });

  test("files: every form of content", options, async () => {
    const bytes = randomBytes(100_000);
    await sandbox.files.write("js/bytes", bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
    assert.deepEqual(Buffer.from(await sandbox.files.read("js/bytes", { format: "bytes" })), bytes);
    const blob = await sandbox.files.read("js/bytes", { format: "blob" });
    assert.equal(blob.size, bytes.length);
    await sandbox.files.write("js/stream", new Blob([bytes]).stream());
    const chunks = [];
    for await (const chunk of await sandbox.files.read("js/stream", { format: "stream" })) chunks.push(chunk);
    assert.deepEqual(Buffer.concat(chunks), bytes);
    await sandbox.files.write([
      { path: "js/one", data: "1" },
      { path: "js/sub/two", data: "22" },
    ]);
    const entries = await sandbox.files.list("/home/user/js", { depth: 2 });
    assert.deepEqual(
      entries.map((entry) => [entry.path.replace("/home/user/js/", ""), entry.type]),
      [
        ["bytes", FileType.FILE],
        ["one", FileType.FILE],
        ["stream", FileType.FILE],
        ["sub", FileType.DIR],
        ["sub/two", FileType.FILE],
      ],
    );
    await sandbox.files.rename("js/one", "js/uno");
    assert.equal(await sandbox.files.exists("js/one"), false);
    assert.equal((await sandbox.files.getInfo("js/uno")).size, 1);
    await sandbox.files.remove("js");
    await assert.rejects(sandbox.files.read("js/uno"), NotFoundError);
  });

  test("files: large, up and down", options, async () => {
    const data = Buffer.alloc(64 << 20, randomBytes(4096));
    await sandbox.files.write("large", new Blob([data]), { requestTimeoutMs: 280_000 });
    const digest = createHash("sha256").update(data).digest("hex");
    assert.equal((await sandbox.commands.run("sha256sum large")).stdout.split(" ")[0], digest);
    const back = Buffer.from(await sandbox.files.read("large", { format: "bytes", requestTimeoutMs: 280_000 }));
    assert.equal(createHash("sha256").update(back).digest("hex"), digest);
  });

  test("a streaming watch", options, async () => {
    await sandbox.files.makeDir("watched");
    const events = [];
    const watch = await sandbox.files.watchDir("watched", (event) => void events.push(event));
    await sandbox.files.write("watched/file", "x");
    await eventually(() => events.some((event) => event.type === FilesystemEventType.WRITE));
    assert.deepEqual([events[0].name, events[0].type], ["file", FilesystemEventType.CREATE]);
    await watch.stop();
  });

  test("a port by its host name", options, async () => {
    await sandbox.commands.run("python3 -m http.server 8000", {
      background: true,
    });
    const host = sandbox.getHost(8000);
    // fetch() sets Host itself, so the request goes through the plain http module.
    const { request } = await import("node:http");
    const get = () =>
      new Promise((resolve, reject) => {
        request(process.env.E2B_SANDBOX_URL, { headers: { Host: host } }, (answer) => {
          answer.resume().on("end", () => resolve(answer.statusCode));
        })
          .on("error", reject)
          .end();
      });
    await eventually(async () => (await get()) === 200, 60_000);
  });

  test("connect, and kill twice", options, async () => {
    const other = await Sandbox.create("base", { timeoutMs: 120_000 });
    const again = await Sandbox.connect(other.sandboxId);
    assert.equal((await again.commands.run("echo same")).stdout, "same\n");
    assert.equal(await other.kill(), true);
    assert.equal(await again.kill(), false);
    assert.equal(await again.isRunning(), false);
  });

  test("refusals", options, async () => {
    await assert.rejects(Sandbox.create("no-such-template"), { name: "SandboxError", message: /^404: .*no-such-template/ });
    await assert.rejects(Sandbox.create("base", { apiKey: "e2b_" + "0".repeat(40) }), { name: "AuthenticationError" });
  });
});

describe("the code interpreter", options, () => {
  let sandbox;
  before(async () => {
    sandbox = await CodeSandbox.create({ timeoutMs: 900_000 });
  }, options);
  after(() => sandbox?.kill(), options);

  test("state, text and streams", options, async () => {
    await sandbox.runCode("numbers = [1, 2, 3]");
    const heard = [];
    const execution = await sandbox.runCode("print('hi')\nsum(numbers)", { onStdout: (message) => heard.push(message.line) });
    assert.equal(execution.text, "6");
    assert.equal(heard.join("").trim(), "hi");
    assert.deepEqual(execution.logs.stdout, heard);
  });

  test("a chart and an error", options, async () => {
    const drawn = await sandbox.runCode("import matplotlib.pyplot as plt\nplt.bar(['a'], [1])\nplt.show()");
    const png = drawn.results.find((result) => result.png)?.png;
    assert.ok(Buffer.from(png, "base64").subarray(1, 4).equals(Buffer.from("PNG")));
    const failed = await sandbox.runCode("raise ValueError('no')");
    assert.deepEqual([failed.error.name, failed.error.value], ["ValueError", "no"]);
  });

  test("contexts", options, async () => {
    const context = await sandbox.createCodeContext({ cwd: "/tmp" });
    await sandbox.runCode("only_here = 1", { context });
    assert.equal((await sandbox.runCode("only_here", { context })).text, "1");
    assert.equal((await sandbox.runCode("only_here")).error.name, "NameError");
    await sandbox.removeCodeContext(context);
  });
});

describe("a sandbox through its states", options, () => {
  test("pause, connect, fork, snapshot", options, async () => {
    const sandbox = await Sandbox.create("base", {
      timeoutMs: 600_000,
      lifecycle: { onTimeout: "pause", autoResume: true },
    });
    const made = [sandbox];
    let snapshotId;
    try {
      await sandbox.files.write("kept", "yes");
      // Without an open stream: the SDK asks after the health of a sandbox whose stream is cut, and that wakes this one.
      const started = await sandbox.commands.run("setsid sleep 3600 > /dev/null 2>&1 & echo $!");
      assert.equal(await sandbox.pause(), true);
      assert.equal(await sandbox.pause(), false);
      assert.equal((await sandbox.getInfo()).state, "paused");
      const again = await Sandbox.connect(sandbox.sandboxId);
      assert.equal(await again.files.read("kept"), "yes");
      const { stdout } = await sandbox.commands.run(`cat /proc/${started.stdout.trim()}/comm`);
      assert.equal(stdout, "sleep\n");

      const children = await sandbox.fork({ count: 2, timeoutMs: 120_000 });
      for (const child of children) {
        if (child instanceof Error) throw child;
        made.push(child);
        assert.notEqual(child.sandboxId, sandbox.sandboxId);
        assert.equal(await child.files.read("kept"), "yes");
      }

      ({ snapshotId } = await sandbox.createSnapshot());
      const created = await Sandbox.create(snapshotId, { timeoutMs: 120_000 });
      made.push(created);
      assert.equal(await created.files.read("kept"), "yes");

      await sandbox.pause();
      assert.equal((await sandbox.commands.run("cat kept")).stdout, "yes", "the command woke it");
    } finally {
      for (const each of made) await each.kill();
      if (snapshotId) assert.equal(await Sandbox.deleteSnapshot(snapshotId), true);
    }
  });
});

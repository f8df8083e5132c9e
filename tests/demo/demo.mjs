#!/usr/bin/env node
// A sandbox's life with E2B's own JavaScript SDK, each step timed and checked.
// Needs E2B_API_URL, E2B_API_KEY and E2B_SANDBOX_URL as `cargo xtask up` prints them.
import assert from "node:assert/strict";
import { Sandbox } from "../js-sdk.mjs";

let count = 0;
const begun = performance.now();

async function step(what, act) {
  const started = performance.now();
  const line = (mark) =>
    `  ${mark} ${String(++count).padStart(2)}  ${what.padEnd(44)} ` +
    `${(performance.now() - started).toFixed(0).padStart(8)} ms`;
  try {
    const note = await act();
    console.log(line("✓"));
    if (note) console.log(`         ${note}`);
  } catch (error) {
    console.log(line("✗"));
    throw error;
  }
}

console.log("\nJavaScript SDK");
let sandbox;
try {
  await step("create a sandbox", async () => {
    sandbox = await Sandbox.create("base", { timeoutMs: 300_000, allowInternetAccess: false });
    return sandbox.sandboxId;
  });
  await step("run a shell command, streamed", async () => {
    const heard = [];
    const result = await sandbox.commands.run("for i in 1 2 3; do echo line $i; done; echo done >&2", {
      onStdout: (text) => heard.push(text),
    });
    assert.equal(result.exitCode, 0);
    assert.equal(result.stdout, "line 1\nline 2\nline 3\n");
    assert.equal(result.stderr, "done\n");
    assert.equal(heard.join(""), result.stdout);
    return result.stdout.trim().replaceAll("\n", ", ");
  });
  await step("write, list and read files", async () => {
    await sandbox.files.write("/home/user/notes/hello.txt", "hello from JavaScript\n");
    const names = (await sandbox.files.list("/home/user/notes")).map((entry) => entry.name);
    assert.deepEqual(names, ["hello.txt"]);
    assert.equal(await sandbox.files.read("/home/user/notes/hello.txt"), "hello from JavaScript\n");
    return names.join(", ");
  });
  await step("run Python", async () => {
    const result = await sandbox.commands.run(`python3 -c "print(sum(range(101)))"`);
    assert.equal(result.stdout, "5050\n");
    return result.stdout.trim();
  });
} catch (error) {
  console.error(`\n${error.stack ?? error}`);
  process.exitCode = 1;
} finally {
  if (sandbox) {
    try {
      await step("kill the sandbox", async () => {
        assert.equal(await sandbox.kill(), true);
        assert.equal(await sandbox.isRunning(), false);
      });
    } catch (error) {
      console.error(`\n${error.stack ?? error}`);
      process.exitCode = 1;
    }
  }
}
console.log(`  ${count} steps in ${((performance.now() - begun) / 1000).toFixed(1)} s`);

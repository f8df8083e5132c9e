// Commands: output, exit codes, streams, input, signals.

import { e2b, expect, generation, limit, same, throws, until } from './harness.mjs'

const { CommandExitError, TimeoutError } = e2b

async function cat(box) {
  let seen = ''
  const handle = await box.commands.run('cat', {
    background: true,
    timeoutMs: limit(10_000),
    onStdout: (text) => (seen += text),
    ...(generation() >= 4 ? { stdin: true } : {}),
  })
  // It may end with the sandbox.
  const end = handle.wait().catch((error) => error)
  return { handle, end, seen: () => seen }
}

export const steps = {
  async run(topic) {
    const done = await (await topic.shared()).commands.run('echo out; echo err >&2')
    same('stdout', done.stdout, 'out\n')
    same('stderr', done.stderr, 'err\n')
    same('exitCode', done.exitCode, 0)
  },
  async exit(topic) {
    const box = await topic.shared()
    const error = await throws(CommandExitError, () => box.commands.run('echo bad >&2; exit 3'))
    same('exitCode', error.exitCode, 3)
    same('stderr', error.stderr, 'bad\n')
  },
  async background(topic) {
    const seen = []
    const handle = await (await topic.shared()).commands.run('echo one; sleep 0.3; echo two', {
      background: true,
      onStdout: (text) => seen.push(text),
    })
    expect(handle.pid > 0, 'a pid', handle.pid)
    const done = await handle.wait()
    same('stdout by callback', seen.join(''), 'one\ntwo\n')
    same('exitCode', done.exitCode, 0)
  },
  async timeout(topic) {
    const { commands } = await topic.shared()
    const before = new Set((await commands.list()).map((one) => one.pid))
    await throws(TimeoutError, () => commands.run('sleep 300', { timeoutMs: 2_000 }))
    await until('the command killed at its time-out', 5_000, async () => {
      const left = (await commands.list()).filter((one) => !before.has(one.pid))
      return !left.some((one) => one.args.includes('sleep 300'))
    })
  },
  async cwd(topic) {
    same('stdout', (await (await topic.shared()).commands.run('pwd', { cwd: '/tmp' })).stdout, '/tmp\n')
  },
  async envs(topic) {
    const { commands } = await topic.shared()
    const done = await commands.run('printenv OF_CALL', { envs: { OF_CALL: 'here' } })
    same('stdout', done.stdout, 'here\n')
  },
  async user(topic) {
    const { commands } = await topic.shared()
    same('default user', (await commands.run('whoami')).stdout, 'user\n')
    same('user root', (await commands.run('whoami', { user: 'root' })).stdout, 'root\n')
  },
  async stdin(topic) {
    const box = await topic.shared()
    const { handle, seen } = await cat(box)
    await box.commands.sendStdin(handle.pid, 'typed\n')
    await until("what cat gives back: 'typed'", 8_000, () => seen() === 'typed\n')
    await handle.kill()
  },
  async 'close-stdin'(topic) {
    const box = await topic.shared()
    const { handle, end } = await cat(box)
    await box.commands.sendStdin(handle.pid, 'last')
    await box.commands.closeStdin(handle.pid)
    same('stdout at the end', (await end).stdout, 'last')
  },
  async list(topic) {
    const { commands } = await topic.shared()
    const handle = await commands.run('sleep 60', { background: true })
    handle.wait().catch(() => {})
    const all = await commands.list()
    const found = all.find((one) => one.pid === handle.pid)
    expect(found, 'the process in the list', all.map((one) => one.pid))
    expect(found.args.includes('sleep 60'), 'its arguments', found.args)
    await handle.kill()
  },
  async kill(topic) {
    const { commands } = await topic.shared()
    const handle = await commands.run('sleep 60', { background: true })
    handle.wait().catch(() => {})
    same('kill', await handle.kill(), true)
    await until('the process gone from the list', 5_000, async () => {
      return !(await commands.list()).some((one) => one.pid === handle.pid)
    })
  },
  async 'kill-false'(topic) {
    same('kill of no process', await (await topic.shared()).commands.kill(999_999), false)
  },
  async connect(topic) {
    const { commands } = await topic.shared()
    const handle = await commands.run('sleep 1; echo late; exit 4', { background: true })
    handle.wait().catch(() => {})
    const again = await commands.connect(handle.pid)
    const error = await throws(CommandExitError, () => again.wait())
    same('exitCode', error.exitCode, 4)
    same('stdout', error.stdout, 'late\n')
  },
}

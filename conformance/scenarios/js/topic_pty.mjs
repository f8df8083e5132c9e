// Terminals.

import { e2b, limit, same, throws, until } from './harness.mjs'

async function terminal(topic) {
  const { pty } = await topic.shared()
  let seen = ''
  const decoder = new TextDecoder()
  const handle = await pty.create({
    cols: 81,
    rows: 25,
    timeoutMs: limit(15_000),
    onData: (data) => void (seen += decoder.decode(data, { stream: true })),
  })
  const end = handle.wait()
  end.catch(() => {})
  const types = (text) => pty.sendInput(handle.pid, new TextEncoder().encode(text))
  return { pty, handle, end, types, shows: (text) => until(`'${text}' on the terminal`, 8_000, () => seen.includes(text)) }
}

export const steps = {
  async output(topic) {
    const { pty, handle, types, shows } = await terminal(topic)
    await types('stty size\n')
    await shows('25 81')
    same('kill', await pty.kill(handle.pid), true)
  },
  async resize(topic) {
    const { pty, handle, types, shows } = await terminal(topic)
    await pty.resize(handle.pid, { cols: 133, rows: 41 })
    await types('stty size\n')
    await shows('41 133')
    await pty.kill(handle.pid)
  },
  async exit(topic) {
    const { end, types } = await terminal(topic)
    await types('exit 5\n')
    same('exitCode', (await throws(e2b.CommandExitError, () => end)).exitCode, 5)
  },
}

// A sandbox that is killed while it is used.

import { e2b, expect, generation, limit, sleep, throws } from './harness.mjs'

const { Sandbox, TimeoutError } = e2b

export const steps = {
  async 'during-run'(topic) {
    const box = await topic.needed()
    await box.commands.run('true')
    const since = Date.now()
    const killed = sleep(limit(500)).then(() => Sandbox.kill(box.sandboxId))
    const kinds = generation() >= 4 ? TimeoutError : Error
    const error = await throws(kinds, () => box.commands.run('sleep 30', { timeoutMs: limit(60_000) }))
    await killed
    const took = Date.now() - since
    expect(took < limit(20_000), 'an end with the sandbox, not with the command', `${took} ms: ${error}`)
    if (generation() >= 4) {
      expect(error.message.includes('killed'), 'a message that names the kill', error.message)
    }
  },
  async 'run-after'(topic) {
    const box = await topic.needed()
    await box.commands.run('true')
    await Sandbox.kill(box.sandboxId)
    // A stream that does not begin is a missing sandbox to this SDK, one that breaks a time-out.
    await throws([TimeoutError, e2b.NotFoundError, e2b.SandboxNotFoundError], () => box.commands.run('echo dead'))
  },
  async 'files-after'(topic) {
    const box = await topic.needed()
    await box.files.write('a', 'x')
    await Sandbox.kill(box.sandboxId)
    await throws(TimeoutError, () => box.files.read('a'))
  },
}

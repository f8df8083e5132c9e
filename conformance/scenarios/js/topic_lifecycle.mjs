// Sandboxes: create, look at, list, prolong, connect to, kill.

import { e2b, expect, generation, limit, same, short, throws, until, word } from './harness.mjs'

const { Sandbox } = e2b

/** Ids of all sandboxes with this metadata; the oldest version cannot filter. */
async function listed(metadata) {
  const found = []
  if (generation() >= 3) {
    const pages = Sandbox.list({ query: { metadata } })
    while (pages.hasNext) found.push(...(await pages.nextItems()))
  } else {
    found.push(...(await Sandbox.list(generation() === 2 ? { query: { metadata } } : {})))
  }
  return found.map((one) => short(one.sandboxId))
}

export const steps = {
  async create(topic) {
    const box = await topic.create()
    expect(box.sandboxId, 'a sandbox id', box.sandboxId)
    same('isRunning', await box.isRunning(), true)
  },
  async envs(topic) {
    const box = await topic.needed({ envs: { FROM_CREATE: 'here' } })
    same('stdout', (await box.commands.run('printenv FROM_CREATE')).stdout, 'here\n')
  },
  async info(topic) {
    const name = word()
    const box = await topic.needed({ metadata: { name } })
    const got = await box.getInfo()
    same('sandboxId', short(got.sandboxId), short(box.sandboxId))
    same('metadata', got.metadata?.name, name)
    expect(got.templateId, 'a template id', got.templateId)
    const age = Date.now() - new Date(got.startedAt).getTime()
    expect(Math.abs(age) < 3_600_000, 'startedAt near now', String(got.startedAt))
  },
  async timeout(topic) {
    const box = await topic.needed()
    const ms = limit(60_000)
    await box.setTimeout(ms)
    const left = new Date((await box.getInfo()).endAt).getTime() - Date.now()
    expect(Math.abs(left - ms) < limit(20_000), `an end in ${ms} ms`, `${left} ms`)
  },
  async list(topic) {
    const name = word()
    const box = await topic.needed({ metadata: { name } })
    const other = await topic.needed({ metadata: { name: word() } })
    const found = await listed({ name })
    expect(found.includes(short(box.sandboxId)), 'the sandbox in the list', found)
    if (generation() >= 2) {
      expect(!found.includes(short(other.sandboxId)), 'no other sandbox in it', found)
    }
  },
  async pages(topic) {
    const name = word()
    const wanted = []
    for (let i = 0; i < 2; i++) wanted.push((await topic.needed({ metadata: { name } })).sandboxId)
    const paging = Sandbox.list({ query: { metadata: { name } }, limit: 1 })
    const found = []
    while (paging.hasNext && found.length < 5) {
      const page = await paging.nextItems()
      expect(page.length <= 1, 'pages of one', `${page.length} items`)
      found.push(...page.map((one) => one.sandboxId))
    }
    same('ids of all pages', found.sort(), wanted.sort())
  },
  async connect(topic) {
    const box = await topic.needed()
    const again = await Sandbox.connect(box.sandboxId)
    same('sandboxId', short(again.sandboxId), short(box.sandboxId))
    same('stdout', (await again.commands.run('echo again')).stdout, 'again\n')
  },
  async kill(topic) {
    const box = await topic.needed()
    same('kill', await Sandbox.kill(box.sandboxId), true)
    await until('isRunning is false after kill', 10_000, async () => !(await box.isRunning()))
  },
  async 'kill-false'(topic) {
    const box = await topic.needed()
    await Sandbox.kill(box.sandboxId)
    same('a second kill', await Sandbox.kill(box.sandboxId), false)
  },
  async gone(topic) {
    const box = await topic.needed()
    await Sandbox.kill(box.sandboxId)
    const kinds = [e2b.NotFoundError, e2b.SandboxNotFoundError]
    await throws(kinds, () => Sandbox.connect(box.sandboxId))
  },
  async 'wrong-key'(topic) {
    const apiKey = 'e2b_' + '0'.repeat(40)
    // Versions before the current one have no error of its own for it.
    const kind = generation() >= 4 ? e2b.AuthenticationError : e2b.SandboxError
    const error = await throws(kind, () => topic.create({ apiKey }))
    if (generation() < 4) expect(error.message.includes('401'), 'a message with 401', error.message)
  },
  async 'unknown-template'(topic) {
    const template = 'no-such-' + word()
    const error = await throws([e2b.SandboxError, e2b.NotFoundError], () => topic.create({ template }))
    expect(/40\d|not/i.test(error.message), 'a message that says why', error.message)
  },
}

// Watches, pushed as the JavaScript SDK has them.

import { e2b, same, throws, until, word } from './harness.mjs'

async function watched(topic, name, options) {
  const { files } = await topic.shared()
  const seen = []
  const handle = await files.watchDir(name, (one) => void seen.push(`${one.type} ${one.name}`), options)
  return { files, handle, seen }
}

export const steps = {
  async dir(topic) {
    const name = word()
    await (await topic.shared()).files.makeDir(name)
    const { files, handle, seen } = await watched(topic, name)
    await files.write(`${name}/new`, 'x')
    await until('a write event', 5_000, () => seen.includes('write new'))
    same('the first event', seen[0], 'create new')
    await files.remove(`${name}/new`)
    await until('a remove event', 5_000, () => seen.includes('remove new'))
    await handle.stop()
  },
  async recursive(topic) {
    const name = word()
    await (await topic.shared()).files.makeDir(`${name}/sub`)
    const { files, handle, seen } = await watched(topic, name, { recursive: true })
    await files.write(`${name}/sub/new`, 'x')
    await until('an event of the directory below', 5_000, () => seen.includes('create sub/new'))
    await handle.stop()
  },
  async missing(topic) {
    const kinds = [e2b.NotFoundError, e2b.FileNotFoundError]
    await throws(kinds, () => watched(topic, 'no-such-' + word()))
  },
}

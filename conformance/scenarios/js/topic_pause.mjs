// Pause and resume.

import { Blocked, e2b, generation, same, word } from './harness.mjs'

const { Sandbox } = e2b
const halt = (box) => (generation() >= 4 ? box.pause() : box.betaPause())

async function paused(topic) {
  const box = await topic.needed()
  const name = word()
  await box.files.write(name, 'kept')
  try {
    await halt(box)
  } catch (error) {
    throw new Blocked(`pause: ${error?.name}: ${error?.message}`)
  }
  return { box, name }
}

export const steps = {
  async pause(topic) {
    const box = await topic.needed()
    same('pause', await halt(box), true)
    same('isRunning', await box.isRunning(), false)
    same('state', (await box.getInfo()).state, 'paused')
  },
  async resume(topic) {
    const { box, name } = await paused(topic)
    const again = await Sandbox.connect(box.sandboxId)
    same('isRunning', await again.isRunning(), true)
    same('a file from before', await again.files.read(name), 'kept')
    same('stdout', (await again.commands.run('echo again')).stdout, 'again\n')
  },
  async 'same-handle'(topic) {
    const { box, name } = await paused(topic)
    await box.connect()
    same('a file from before, by the old handle', await box.files.read(name), 'kept')
  },
  async twice(topic) {
    const { box } = await paused(topic)
    same('a second pause', await box.pause(), false)
  },
}

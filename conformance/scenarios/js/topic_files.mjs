// Files: write, read, list, move, remove.

import { e2b, same, throws, word } from './harness.mjs'

async function begun(topic) {
  const box = await topic.shared()
  return { box, files: box.files, name: word() }
}

export const steps = {
  async write(topic) {
    const { files, name } = await begun(topic)
    await files.write(`${name}/deep/a.txt`, 'hello ✓')
    same('read', await files.read(`${name}/deep/a.txt`), 'hello ✓')
    await files.write(`${name}/deep/a.txt`, 'hi')
    same('read after a shorter write', await files.read(`${name}/deep/a.txt`), 'hi')
  },
  async bytes(topic) {
    const { files, name } = await begun(topic)
    const content = Uint8Array.from({ length: 10_240 }, (_, index) => index % 256)
    await files.write(name, content.buffer)
    const got = await files.read(name, { format: 'bytes' })
    same('read as bytes', Buffer.compare(Buffer.from(got), Buffer.from(content)), 0)
  },
  async empty(topic) {
    const { files, name } = await begun(topic)
    await files.write(name, '')
    same('read', await files.read(name), '')
  },
  async 'write-many'(topic) {
    const { files, name } = await begun(topic)
    const written = await files.write(['a', 'b'].map((one) => ({ path: `${name}/${one}`, data: one })))
    same('answers', written.length, 2)
    same('read', [await files.read(`${name}/a`), await files.read(`${name}/b`)], ['a', 'b'])
  },
  async 'read-missing'(topic) {
    const { files, name } = await begun(topic)
    await throws([e2b.NotFoundError, e2b.FileNotFoundError], () => files.read('no-such-' + name))
  },
  async exists(topic) {
    const { files, name } = await begun(topic)
    same('exists before', await files.exists(name), false)
    await files.write(name, 'x')
    same('exists after', await files.exists(name), true)
  },
  async list(topic) {
    const { files, name } = await begun(topic)
    await files.write(`${name}/file`, 'x')
    await files.makeDir(`${name}/dir`)
    const found = (await files.list(name)).map((one) => [one.name, one.type, one.path]).sort()
    const home = `/home/user/${name}`
    same('entries', found, [['dir', 'dir', `${home}/dir`], ['file', 'file', `${home}/file`]])
  },
  async info(topic) {
    const { files, name } = await begun(topic)
    await files.write(name, '12345')
    const got = await files.getInfo(name)
    same('name', got.name, name)
    same('path', got.path, `/home/user/${name}`)
    same('type', got.type, 'file')
    same('size', Number(got.size), 5)
    same('mode', got.mode, 0o644)
    same('permissions', got.permissions, '-rw-r--r--')
    same('owner', got.owner, 'user')
  },
  async rename(topic) {
    const { files, name } = await begun(topic)
    await files.write(name, 'x')
    const entry = await files.rename(name, `${name}-new`)
    same('name', entry.name, `${name}-new`)
    same('old exists', await files.exists(name), false)
    same('new exists', await files.exists(`${name}-new`), true)
  },
  async remove(topic) {
    const { files, name } = await begun(topic)
    await files.write(`${name}/a`, 'x')
    await files.remove(name)
    same('exists', await files.exists(name), false)
  },
  async 'make-dir'(topic) {
    const { files, name } = await begun(topic)
    same('a new directory', await files.makeDir(`${name}/deep`), true)
    same('one that is there', await files.makeDir(`${name}/deep`), false)
  },
  async user(topic) {
    const { box, files, name } = await begun(topic)
    await files.write(name, 'x', { user: 'root' })
    same("in root's home", (await box.commands.run(`cat /root/${name}`, { user: 'root' })).stdout, 'x')
  },
}

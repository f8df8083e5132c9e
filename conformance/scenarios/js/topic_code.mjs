// Code in a kernel, with @e2b/code-interpreter.

import { Blocked, expect, interpreter, same } from './harness.mjs'

function box(topic) {
  const template = process.env.E2B_CONFORMANCE_CODE_TEMPLATE
  topic.code ??= topic.create({ kind: interpreter().Sandbox, template }).catch((error) => {
    throw new Blocked(`Sandbox.create: ${error?.name}: ${error?.message}`)
  })
  return topic.code
}

export const steps = {
  async result(topic) {
    const execution = await (await box(topic)).runCode('1 + 1')
    same('error', execution.error, undefined)
    same('text', execution.text, '2')
  },
  async logs(topic) {
    const code = 'import sys\nprint("out")\nprint("err", file=sys.stderr)'
    const execution = await (await box(topic)).runCode(code)
    same('stdout', execution.logs.stdout.join(''), 'out\n')
    same('stderr', execution.logs.stderr.join(''), 'err\n')
  },
  async error(topic) {
    const { error } = await (await box(topic)).runCode('raise ValueError("wrong")')
    expect(error, 'an error', 'none')
    same("error's name and value", [error.name, error.value], ['ValueError', 'wrong'])
    expect(typeof error.traceback === 'string', 'the traceback as text', error.traceback)
    expect(error.traceback.includes('ValueError'), 'a traceback', error.traceback)
  },
  async state(topic) {
    await (await box(topic)).runCode('x = 41')
    same('text', (await (await box(topic)).runCode('x + 1')).text, '42')
  },
  async context(topic) {
    const context = await (await box(topic)).createCodeContext()
    await (await box(topic)).runCode('y = 1', { context })
    const { error, text } = await (await box(topic)).runCode('y')
    expect(error, 'contexts apart: NameError', text)
    same("error's name", error.name, 'NameError')
  },
  async callback(topic) {
    const seen = []
    await (await box(topic)).runCode('print("out")', { onStdout: (message) => seen.push(message.line) })
    same('stdout by callback', seen.join(''), 'out\n')
  },
}

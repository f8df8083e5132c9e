// What all scenarios share: steps, what they expect, the sandbox of a topic, and what differs between versions.

import { randomBytes } from 'node:crypto'
import { writeSync } from 'node:fs'
import { createRequire } from 'node:module'
import { inspect, isDeepStrictEqual } from 'node:util'

// The SDK is found in the project's folder, not beside this file.
const require = createRequire(process.env.E2B_CONFORMANCE_PROJECT + '/package.json')
export const e2b = require('e2b')
export const interpreter = () => require('@e2b/code-interpreter')
const { Sandbox } = e2b

export class Mismatch extends Error {
  constructor(expected, actual, cause) {
    super(`expected ${expected}, got ${actual}`, { cause })
    this.expected = String(expected)
    this.actual = String(actual)
  }
}

/** Something that the step needs first did not work. */
export class Blocked extends Error {}

export function expect(holds, expected, actual) {
  if (!holds) throw new Mismatch(expected, typeof actual === 'string' ? actual : inspect(actual))
}

export function same(what, actual, wanted) {
  expect(isDeepStrictEqual(actual, wanted), `${what}: ${inspect(wanted)}`, inspect(actual))
}

/** What it throws, which must be of one of these classes. */
export async function throws(kinds, work) {
  kinds = [kinds].flat().filter(Boolean)
  const names = kinds.map((kind) => kind.name).join(' or ')
  let result
  try {
    result = await work()
  } catch (error) {
    if (kinds.some((kind) => error instanceof kind)) return error
    throw new Mismatch(names, `${error?.name}: ${error?.message}`, error)
  }
  throw new Mismatch(names, `no exception, but ${inspect(result, { depth: 1 })}`)
}

export const generation = () => Number(process.env.E2B_CONFORMANCE_GENERATION)
export const limit = (ms) => ms * Number(process.env.E2B_CONFORMANCE_PATIENCE ?? '1')
export const word = () => randomBytes(6).toString('hex')
export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms))
export const short = (id) => id.split('-')[0]

/** Waits until it holds; fails when the time is over. */
export async function until(what, ms, ask) {
  const end = Date.now() + limit(ms)
  while (!(await ask())) {
    expect(Date.now() < end, what, 'it did not come')
    await sleep(100)
  }
}

class Topic {
  made = []

  options({ metadata = {}, ...extra } = {}) {
    const { E2B_CONFORMANCE_LABEL: label, E2B_CONFORMANCE_RUN: run } = process.env
    return {
      timeoutMs: limit(120_000) + 180_000,
      metadata: { [label]: run, ...metadata },
      ...(limit(1) > 1 ? { requestTimeoutMs: limit(30_000) } : {}),
      ...extra,
    }
  }

  /** A sandbox, as a user of this version makes one. */
  async create({ template = process.env.E2B_CONFORMANCE_TEMPLATE, kind = Sandbox, ...extra } = {}) {
    const box = await kind.create(template, this.options(extra))
    this.made.push(box.sandboxId)
    for (const token of [box.envdAccessToken, box.trafficAccessToken]) {
      if (typeof token === 'string') say({ secret: token })
    }
    return box
  }

  /** A sandbox as a means: without it the step is not tried. */
  async needed(extra) {
    try {
      return await this.create(extra)
    } catch (error) {
      throw new Blocked(`Sandbox.create: ${error?.name}: ${error?.message}`)
    }
  }

  shared() {
    this.one ??= this.needed()
    return this.one
  }

  /** Kills what a step made for itself, so that servers with few places are not filled. */
  async tidy(all = false) {
    const kept = []
    for (const box of all ? [] : [this.one, this.code]) kept.push((await box?.catch(() => {}))?.sandboxId)
    for (const id of this.made.filter((id) => !kept.includes(id))) {
      await Sandbox.kill(id).catch(() => {}) // the suite kills by label what is left
    }
    this.made = this.made.filter((id) => kept.includes(id))
  }
}

function say(line) {
  writeSync(1, JSON.stringify(line) + '\n')
}

export async function run(job, name, steps, wanted) {
  const topic = new Topic()
  for (const [shortName, work] of Object.entries(steps)) {
    const step = `${name}-${shortName}`
    if (wanted && !wanted.includes(step)) continue
    const line = { job, step, ok: true }
    const since = performance.now()
    try {
      await work(topic)
    } catch (error) {
      if (error instanceof Mismatch) {
        Object.assign(line, { ok: false, expected: error.expected, actual: error.actual })
        if (error.cause) line.detail = inspect(error.cause)
      } else if (error instanceof Blocked) {
        Object.assign(line, { ok: null, actual: error.message })
      } else {
        const actual = `${error?.name}: ${error?.message}`
        Object.assign(line, { ok: false, expected: 'no exception', actual, detail: inspect(error) })
      }
    }
    line.ms = performance.now() - since
    say(line)
    await topic.tidy()
  }
  await topic.tidy(true)
}

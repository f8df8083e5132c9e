// Runs scenarios against one server after another, in one process. In and out as python/main.py says.

import { readFileSync } from 'node:fs'
import tls from 'node:tls'

// Names below the front's domain lead to the front: it stands in for a wildcard DNS record and an https port.
const connect = tls.connect
tls.connect = (options, ...rest) => {
  const { E2B_CONFORMANCE_FRONT: domain, E2B_CONFORMANCE_FRONT_PORT: port } = process.env
  const host = options?.host ?? options?.servername
  if (!domain || !host?.endsWith('.' + domain)) return connect(options, ...rest)
  return connect({ ...options, host: '127.0.0.1', port: Number(port), servername: host }, ...rest)
}

const { run } = await import('./harness.mjs')
const plan = JSON.parse(readFileSync(0, 'utf8'))
for (const [index, job] of plan.jobs.entries()) {
  // Names of an earlier job must not stay: an SDK reads them at each call.
  for (const name of Object.keys(process.env)) {
    if (name.startsWith('E2B_') && name !== 'E2B_CONFORMANCE_PROJECT') delete process.env[name]
  }
  Object.assign(process.env, job.env)
  const { steps } = await import(`./topic_${job.topic}.mjs`)
  await run(index, job.topic, steps, job.steps)
}
// Idle connections of an SDK would keep the process.
process.exit(0)

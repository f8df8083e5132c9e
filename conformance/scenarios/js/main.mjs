// Runs scenarios against one server after another, in one process. In and out as python/main.py says.

import dns from 'node:dns'
import { readFileSync } from 'node:fs'

// Names below the front's domain are on this machine: it stands in for a wildcard DNS record.
const lookup = dns.lookup
dns.lookup = (host, ...rest) => {
  const domain = process.env.E2B_CONFORMANCE_FRONT
  return lookup(domain && host.endsWith('.' + domain) ? '127.0.0.1' : host, ...rest)
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

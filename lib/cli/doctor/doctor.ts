import type pg from 'pg'
import { UsageError } from '../usage-error.ts'
import { messageOf } from './ask.ts'
import { askApp } from './ask-app.ts'
import { cannotRun, type DoctorArguments, doctorHelp, readDoctorArguments } from './doctor-arguments.ts'
import type { Facts } from './facts.ts'
import { gatherEach } from './gather.ts'
import { judge } from './judge.ts'
import { adminConfig, resolveByPlugin } from './plugin-options.ts'
import { exitStatus, reportOf, toJson, toText } from './report.ts'

/**
 * `fastify-pg-scope doctor`: gathers facts about the app, the server and the pooler, judges them, and reports. The exit
 * status is 0 (nothing, or notes), 1 (warnings) or 2 (errors).
 *
 * @throws UsageError when it cannot run
 */
export async function doctor (args: string[]): Promise<void> {
  const given = readDoctorArguments(args)
  if (given.help) {
    process.stdout.write(doctorHelp)
    return
  }
  const reports = (await factsOf(given)).map((facts) =>
    reportOf(facts, given.processes, judge(facts, given.processes)))
  process.stdout.write(given.json ? toJson(reports) : toText(reports))
  process.exitCode = exitStatus(reports)
}

async function factsOf ({ url, app, admin: adminUrl }: DoctorArguments): Promise<Facts[]> {
  try {
    const admin: pg.ClientConfig | null = adminUrl === undefined ? null : adminConfig(adminUrl)
    if (app !== undefined) return await askApp(app, adminUrl ?? null)
    const options = await resolveByPlugin(url === undefined ? {} : { connectionString: url })
    const source = url === undefined ? 'the environment' : 'the URL'
    return await gatherEach({ options, source, bootFailure: null, admin })
  } catch (error) {
    if (error instanceof UsageError) throw error
    // 1 would mean warnings.
    throw new UsageError(`The doctor failed: ${messageOf(error)}`, cannotRun)
  }
}

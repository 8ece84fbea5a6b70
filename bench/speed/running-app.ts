import type { CpuTime } from './app.ts'
import { Child } from './child.ts'
import type { Setup, SubjectName } from './subject.ts'

/** The app of one subject, seen from outside. */
export interface RunningApp {
  url: string
  cpu (): Promise<CpuTime>
  stop (): Promise<void>
}

export async function startApp (name: SubjectName, setup: Setup): Promise<RunningApp> {
  const [child, port] = await Child.start<number>('app', [name, setup])
  return {
    url: `http://127.0.0.1:${port}`,
    cpu: () => child.ask('cpu'),
    stop: () => child.stop()
  }
}

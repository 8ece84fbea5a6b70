import type { CpuTime, Heap, Question } from './app.ts'
import { Child } from './child.ts'
import { startFastApi } from './python.ts'
import type { NodeSubjectName, Setup, SubjectName } from './subject.ts'

/** The app of one subject, seen from outside. */
export interface RunningApp {
  url: string
  cpu (): Promise<CpuTime>
  stop (): Promise<void>
}

export interface NodeApp extends RunningApp {
  /** Collects the garbage first, or does not. */
  heap (how: Extract<Question, 'collect' | 'look'>): Promise<Heap>
}

export async function startApp (name: SubjectName, setup: Setup, execArgv?: readonly string[]): Promise<RunningApp> {
  return name === 'fastapi' ? await startFastApi(setup) : await startNodeApp(name, setup, execArgv)
}

export async function startNodeApp (
  name: NodeSubjectName, setup: Setup, execArgv?: readonly string[]
): Promise<NodeApp> {
  const [child, port] = await Child.start<number>('app', [name, setup], execArgv)
  return {
    url: `http://127.0.0.1:${port}`,
    cpu: () => child.ask<CpuTime>('cpu' satisfies Question),
    heap: (how) => child.ask<Heap>(how),
    stop: () => child.stop()
  }
}

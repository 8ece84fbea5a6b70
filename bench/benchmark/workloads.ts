import { accounts, tenant, timeout, user } from '../../harness/workload-statements.ts'

export interface Workload {
  /** As tables name it. */
  title: string
  method: 'GET' | 'POST'
  path: string
  status: number
  /** Whether this is what an answer has to say. */
  right: (body: any) => boolean
}

const isAccount = (row: any): boolean => Number.isInteger(row.id) && row.id >= 1 && row.id <= accounts &&
  row.owner === `owner-${row.id}` && Number.isInteger(row.balance)
const hasKeys = (row: any, count: number): boolean => Object.keys(row).length === count

const isRow = (body: any): boolean => isAccount(body) && hasKeys(body, 3)

/** A transaction for each request, where nothing else is said. */
export const workloads = {
  plain: { title: 'no database', method: 'GET', path: '/plain', status: 200, right: ({ hello }) => hello === 'world' },
  read: { title: 'one read', method: 'GET', path: '/read', status: 200, right: isRow },
  'read-only': { title: 'one read, READ ONLY', method: 'GET', path: '/read-only', status: 200, right: isRow },
  autocommit: { title: 'one read, autocommit', method: 'GET', path: '/autocommit', status: 200, right: isRow },
  write: {
    title: 'update + insert',
    method: 'POST',
    path: '/write',
    status: 201,
    right: (body) => Number.isInteger(body.account) && Number.isInteger(body.amount) && hasKeys(body, 2)
  },
  page: { title: 'page of five reads', method: 'GET', path: '/page', status: 200, right: (body) => body.length === 5 && body.every(isRow) },
  settings: {
    title: 'one read, two settings and a timeout',
    method: 'GET',
    path: '/settings',
    status: 200,
    right: (body) => isAccount(body) && body.user === user && body.tenant === tenant && body.timeout === `${timeout / 1000}s`
  }
} satisfies Record<string, Workload>

export type WorkloadName = keyof typeof workloads
export const workloadNames = Object.keys(workloads) as WorkloadName[]

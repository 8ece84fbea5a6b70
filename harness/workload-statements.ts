/** The statements, the same for every subject that takes SQL; the query builders' own come to the same. */
export const read = 'SELECT id, owner, balance FROM accounts WHERE id = $1'

export const update = 'UPDATE accounts SET balance = balance + $1 WHERE id = $2'
export const insert = 'INSERT INTO entries (account, amount) VALUES ($1, $2)'

/** What a transaction's settings and its timeout are set by, where one statement has to do it. */
export const set = "SELECT set_config('app.user_id', $1, true), set_config('app.tenant_id', $2, true), set_config('statement_timeout', $3, true)"

/** A read that answers with what was set. */
export const readAsUser = `
  SELECT id, owner, balance, current_setting('app.user_id') AS "user", current_setting('app.tenant_id') AS tenant,
    current_setting('statement_timeout') AS timeout FROM accounts WHERE id = $1`

export const tenant = 'bench'

/** Who asks: a header here, the content of a token in other apps. */
export const userHeader = 'x-user'
export const user = 'user-42'
export const userOf = (
  { headers }: { headers: Record<string, string | string[] | undefined> }
): string => headers[userHeader] as string

/** statement_timeout where a workload sets it. Milliseconds. */
export const timeout = 5000

/** So many that two transfers seldom meet on a row. */
export const accounts = 10_000

/** Chosen by the handler: a load generator that names it would build another request each time. */
export const randomId = (): number => 1 + Math.floor(Math.random() * accounts)

/** The accounts that one page shows. */
export const randomIds = (): number[] => [randomId(), randomId(), randomId(), randomId(), randomId()]

export const randomAmount = (): number => 1 + Math.floor(Math.random() * 100)

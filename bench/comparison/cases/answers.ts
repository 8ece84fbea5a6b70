import type { Case } from '../case.ts'

const post = (name: string, path: string, what?: { threw: boolean }): Case => ({
  name,
  async run (context) { await context.post(path, what) }
})

/** The handler ends, in one way or another. */
export const answers: Case[] = [
  post('success', '/success'),
  post('throw', '/throw', { threw: true }),
  post('status 422 sent without a throw', '/error-status'),
  post('throw, and a custom error handler answers 200', '/error-handler', { threw: true }),
  post('SQL error swallowed, then 201', '/swallowed'),
  post('deferred constraint fails at COMMIT', '/deferred'),
  post('forgotten await', '/no-await'),
  post('forgotten await of a statement that fails', '/no-await-failing'),
  post('an onSend hook throws once', '/on-send-once'),
  post('an onSend hook always throws', '/on-send-always'),
  post('hijack, answered by hand', '/hijack'),
  post('hijack, answered by hand after a COMMIT by hand', '/hijack?commit=1'),
  {
    name: 'handlerTimeout, and the handler goes on',
    async run (context) {
      const { tag } = await context.get('/timeout')
      await context.sleep(1000)
      const late = await context.sql('SELECT FROM entries WHERE tag = $1', [`${tag} late`])
      return [late.length > 0 ? 'the late statement ran' : 'the late statement was refused']
    }
  }
]

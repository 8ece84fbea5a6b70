// What a user of NestJS can rely on. Decorators are called: they are no syntax that only has types removed.
import 'reflect-metadata'
import {
  Catch, Controller, Get, Global, Inject, Injectable, Module, ParseIntPipe, Post, Query, UseFilters, UseGuards
} from '@nestjs/common'
import { HttpAdapterHost, NestFactory } from '@nestjs/core'
import { FastifyAdapter, type NestFastifyApplication, RouteConfig } from '@nestjs/platform-fastify'
import type { FastifyRequest } from 'fastify'
import t, { type Test } from 'tap'
import pgScope from '../../harness/plugin.ts'
import { startTestPostgres } from '../../harness/postgres.ts'
import { waitFor } from '../../harness/wait-for.ts'
import type { Engine } from '../../lib/index.ts'

const postgres = await startTestPostgres(t)
const insert = 'INSERT INTO log VALUES ($1)'
/** The first two COMMITs of a line that begins with "attempt" fail. */
const conflicts = `CREATE SEQUENCE tries;
  CREATE FUNCTION conflict() RETURNS trigger LANGUAGE plpgsql AS $$
  BEGIN
    IF nextval('tries') < 3 THEN RAISE EXCEPTION 'a conflict' USING ERRCODE = '40001'; END IF;
    RETURN NULL;
  END $$;
  CREATE CONSTRAINT TRIGGER late AFTER INSERT ON log DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN (NEW.line LIKE 'attempt%') EXECUTE FUNCTION conflict();`

/** Applies decorators to a method. */
function method (type: new (...args: any[]) => object, name: string, ...decorators: MethodDecorator[]): void {
  const { prototype } = type
  for (const decorate of decorators) {
    const descriptor = Object.getOwnPropertyDescriptor(prototype, name)!
    Object.defineProperty(prototype, name, decorate(prototype, name, descriptor) ?? descriptor)
  }
}

interface Host {
  switchToHttp (): { getRequest (): FastifyRequest, getResponse (): any }
}

class AnswersOk {
  catch (error: Error, host: Host): void {
    const http = host.switchToHttp()
    http.getRequest().db.setRollbackOnly(error.message)
    http.getResponse().status(200).send({ caught: error.message })
  }
}
Catch()(AnswersOk)

/** A provider that is made once: it finds the session of the running request. */
class Log {
  readonly engine: Engine
  constructor (engine: Engine) {
    this.engine = engine
  }

  async add (line: string): Promise<void> {
    await this.engine.current().query(insert, [line])
  }
}
Injectable()(Log)
Inject('PG')(Log, undefined, 0)

class Auditing {
  async canActivate (context: Host): Promise<boolean> {
    await context.switchToHttp().getRequest().db.query(insert, ['guard'])
    return true
  }
}
Injectable()(Auditing)

class Lines {
  readonly log: Log
  constructor (log: Log) {
    this.log = log
  }

  async add (line: string): Promise<object> {
    await Promise.all([this.log.add(line), this.log.add(`${line}, too`)])
    return { line }
  }

  async fail (): Promise<void> {
    await this.log.add('failed')
    throw new Error('not this one')
  }

  async number (n: number): Promise<object> {
    await this.log.add(`number ${n}`)
    return { n }
  }

  async again (): Promise<object> {
    const { engine } = this.log
    const { attempt } = engine.current()
    await this.log.add(`attempt ${attempt}`)
    await engine.current().transaction(() => this.log.add('nested'))
    return { attempt }
  }
}
Controller('lines')(Lines)
Inject(Log)(Lines, undefined, 0)
Query('line')(Lines.prototype, 'add', 0)
Query('n', ParseIntPipe)(Lines.prototype, 'number', 0)
method(Lines, 'add', Post('add'), UseGuards(Auditing))
method(Lines, 'fail', Get('fail'))
method(Lines, 'number', Get('number'), UseFilters(AnswersOk))
method(Lines, 'again', Post('again'), RouteConfig({ db: { retry: { attempts: 3, minDelay: 1 } } }))

async function start (t: Test) {
  const database = await postgres.createDatabase()
  await postgres.query(`CREATE TABLE log (line text); ${conflicts}`, undefined, database)

  class PgScopeModule {}
  Global()(PgScopeModule)
  Module({
    providers: [{
      provide: 'PG',
      inject: [HttpAdapterHost],
      useFactory: async ({ httpAdapter }: HttpAdapterHost<FastifyAdapter>) => {
        const fastify = httpAdapter.getInstance()
        await fastify.register(pgScope as never, { connectionString: database } as never)
        return (fastify as unknown as { db: Engine }).db
      }
    }],
    exports: ['PG']
  })(PgScopeModule)
  class App {}
  Module({ imports: [PgScopeModule], controllers: [Lines], providers: [Log] })(App)

  const app = await NestFactory.create<NestFastifyApplication>(App, new FastifyAdapter(), { logger: false })
  t.teardown(() => app.close())
  await app.init()
  await app.getHttpAdapter().getInstance().ready()
  return {
    app,
    log: app.get(Log),
    engine: app.get<Engine>('PG'),
    lines: async (): Promise<string[]> => {
      const { rows } = await postgres.query('SELECT line FROM log ORDER BY line', undefined, database)
      return rows.map(({ line }) => line)
    }
  }
}

t.test('guards and providers that are made once use the session of the request, which commits', async (t) => {
  const { app, lines, engine } = await start(t)
  const responses = await Promise.all(['a', 'b'].map((line) => app.inject({ method: 'POST', url: `/lines/add?line=${line}` })))
  t.same(responses.map(({ statusCode }) => statusCode), [201, 201])
  t.same(await lines(), ['a', 'a, too', 'b', 'b, too', 'guard', 'guard'])
  t.equal(engine.stats().counters.committed, 2, 'one transaction each')
})

t.test("Nest's own answer to an error rolls back", async (t) => {
  const { app, lines } = await start(t)
  t.equal((await app.inject('/lines/fail')).statusCode, 500)
  t.equal((await app.inject('/lines/nowhere')).statusCode, 404)
  t.same(await lines(), [])
})

t.test('an exception filter that answers with a success keeps nothing by one line', async (t) => {
  const { app, lines } = await start(t)
  t.match((await app.inject('/lines/number?n=x')).json(), { caught: /numeric string is expected/ })
  t.same(await lines(), [])
  t.same((await app.inject('/lines/number?n=5')).json(), { n: 5 })
  t.same(await lines(), ['number 5'])
})

t.test('a route with `retry` runs again after a COMMIT that a concurrent transaction has prevented', async (t) => {
  const { app, lines } = await start(t)
  const response = await app.inject({ method: 'POST', url: '/lines/again' })
  t.same([response.statusCode, response.json()], [201, { attempt: 3 }])
  t.same(await lines(), ['attempt 3', 'nested'])
})

t.test('outside of requests the session is that of a scope, and close() closes the connections', async (t) => {
  const { app, log, lines, engine } = await start(t)
  await t.rejects(log.add('nowhere'), { code: 'FST_PG_SCOPE_NO_SESSION' })
  await engine.scope(() => log.add('scope'))
  t.same(await lines(), ['scope'])
  await app.close()
  await waitFor(() => engine.stats().open === 0)
})

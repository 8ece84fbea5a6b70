import t from 'tap'
import { startCluster } from '../../../harness/standby.ts'

t.test('a standby follows its primary, stands still, lags and becomes a primary', async (t) => {
  const { primary, standbys: [standby], addStandby } = await startCluster(t)
  await primary.query('CREATE TABLE seen (n int)')
  await standby!.caughtUp()
  const count = async (): Promise<number> => (await standby!.query('SELECT count(*)::int AS n FROM seen')).rows[0]!.n
  t.equal(await count(), 0)
  await t.rejects(standby!.query('INSERT INTO seen VALUES (0)'), { code: '25006' })

  await standby!.pause()
  await primary.query('INSERT INTO seen VALUES (1)')
  t.equal(await count(), 0, 'paused')
  await standby!.resume()
  await standby!.caughtUp()
  t.equal(await count(), 1)

  await standby!.lag(60000)
  await primary.query('INSERT INTO seen VALUES (2)')
  t.equal(await count(), 1, 'it lags')
  await standby!.lag(0)
  await standby!.caughtUp()
  t.equal(await count(), 2)

  await standby!.promote()
  await standby!.query('INSERT INTO seen VALUES (3)')
  t.equal(await count(), 3)
  const second = await addStandby(standby)
  await second.caughtUp()
  t.equal((await second.query('SELECT count(*)::int AS n FROM seen')).rows[0]!.n, 3)
})

import t from 'tap'
import { type ArraySetMember, ArraySet } from '../../lib/array-set.ts'

interface Named extends ArraySetMember {
  name: string
}

const named = (name: string): Named => ({ name, arraySetIndex: -1 })
const names = (roster: ArraySet<Named>): string[] => [...roster].map(({ name }) => name).sort()

t.test('an entry can leave from anywhere, and the others stay', async (t) => {
  const roster = new ArraySet<Named>()
  const [a, b, c, d] = ['a', 'b', 'c', 'd'].map(named) as [Named, Named, Named, Named]
  for (const member of [a, b, c, d]) roster.add(member)
  roster.delete(a)
  t.same(names(roster), ['b', 'c', 'd'])
  roster.delete(c)
  t.same(names(roster), ['b', 'd'])
  roster.delete(b)
  roster.delete(d)
  t.same(names(roster), [])
  roster.add(a)
  t.same(names(roster), ['a'], 'who was there before may come again')
})

t.test('removing an entry that is not queued removes no other', async (t) => {
  const roster = new ArraySet<Named>()
  const [a, b, stranger] = ['a', 'b', 'stranger'].map(named) as [Named, Named, Named]
  for (const member of [a, b]) roster.add(member)
  roster.delete(stranger)
  roster.delete(a)
  roster.delete(a)
  t.same(names(roster), ['b'])
  roster.clear()
  roster.delete(b)
  t.equal(roster.size, 0)
})

t.test('an iteration visits all entries of its beginning, also while they leave', async (t) => {
  const roster = new ArraySet<Named>()
  for (const name of ['a', 'b', 'c']) roster.add(named(name))
  const met: string[] = []
  for (const member of roster) {
    met.push(member.name)
    roster.delete(member)
  }
  t.same(met.sort(), ['a', 'b', 'c'])
  t.equal(roster.size, 0)
})

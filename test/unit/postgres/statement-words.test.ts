import t from 'tap'
import { statementsOf } from '../../../lib/postgres/statement-words.ts'

const cases: Record<string, [string, string[]][]> = {
  'white space': [
    ['SELECT 1', ['SELECT 1']],
    ['  SELECT\n\t 1  ', ['SELECT 1 ']],
    ['', []],
    [' ; \n;;', []]
  ],
  'statements behind semicolons': [
    ['SELECT 1; SELECT 2;', ['SELECT 1', 'SELECT 2']],
    ['((SELECT 1)); ( (SELECT 2))', ['SELECT 1))', 'SELECT 2))']]
  ],
  comments: [
    ['-- ;\nSELECT 1 -- ; SELECT 2', ['SELECT 1 ']],
    ['SELECT/* ; */1', ['SELECT 1']],
    ['/* a /* ; */ b */ SELECT 1; /* c', ['SELECT 1']],
    ['SELECT 1 -/* - */1', ['SELECT 1 - 1']]
  ],
  strings: [
    ["SELECT 'a;b', 'it''s;', ''", ["SELECT '', '''', ''"]],
    ["SELECT E'\\';', e'a''b\\\\', 1;", ["SELECT '', '', 1"]],
    ["SELECT 'a\\'; SELECT 2", ["SELECT ''", 'SELECT 2']],
    ["SELECT namee'a;'", ["SELECT namee''"]],
    ["SELECT 'open; SELECT 2", ["SELECT ''"]],
    ["SELECT E'open\\", ["SELECT ''"]],
    ["SELECT U&'a;', B'1', X'f;'", ["SELECT U&'', B'', X''"]],
    ["SELECT '-- ', '/*', '\"', 1", ["SELECT '', '', '', 1"]]
  ],
  'strings in dollars': [
    ['SELECT $$a;b$$, $1', ["SELECT '', $1"]],
    ['SELECT $a$ $$;$b$ $a$, 2', ["SELECT '', 2"]],
    ['SELECT a$b$, c$b$; SELECT 2', ['SELECT a$b$, c$b$', 'SELECT 2']],
    ['SELECT $1+$2; SELECT $3', ['SELECT $1+$2', 'SELECT $3']],
    ['SELECT $é$;$é$', ["SELECT ''"]],
    ['SELECT $a$ open ; $A$', ["SELECT ''"]]
  ],
  'what says false': [
    ["SELECT 'f', 'FALSE', ' off ', 'no', '0', 'n', 'of', 'o', 'true', 'false!'", ["SELECT false, false, false, false, false, false, false, '', '', ''"]]
  ],
  'quoted names': [
    ['SELECT "a" FROM "b_1"."c;d", "B"', ['SELECT "a" FROM "b_1"."", ""']],
    ['SELECT "it\'s"; SELECT 2', ['SELECT ""', 'SELECT 2']]
  ],
  'the code of a DO block': [
    ['DO $$ BEGIN a(\'x;y\'); b(); END $$; SELECT 1', ["DO BEGIN a('') b() END ", 'SELECT 1']],
    ['SELECT \'\'; DO $a$ BEGIN a(); END $a$', ["SELECT ''", 'DO BEGIN a() END ']],
    ["/* a */ do language plpgsql 'begin a(); end'", ['do language plpgsql begin a() end ']],
    ['SELECT $$ BEGIN a(); END $$', ["SELECT ''"]]
  ]
}

for (const [what, texts] of Object.entries(cases)) {
  t.test(`the statements of a text: ${what}`, async (t) => {
    for (const [text, statements] of texts) t.same(statementsOf(text), statements, text)
  })
}

// A search that tries every way to split them would not come back from these.
t.test('no length of a text makes it slow to take apart', async (t) => {
  const many = 200_000
  for (const piece of ['/* ', '*/', "'", "E'\\'", '"', '$$', '$a$', '--\n', ';', '(', ' ', "e'a", 'do $$ ']) {
    t.ok(Array.isArray(statementsOf(`SELECT ${piece.repeat(many / piece.length)} LISTEN x`)), JSON.stringify(piece))
  }
})

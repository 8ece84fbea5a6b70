import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { bench } from './bench.ts'
import { chart } from './chart.ts'
import { help, type Options, readOptions } from './options.ts'
import { figures, page } from './page.ts'
import { planOf, wholePlan } from './plan.ts'
import type { Results } from './results.ts'

const folder = 'bench/results'

async function run ({ choice, parts, rounds, seconds, profile }: Options): Promise<Results> {
  await mkdir(folder, { recursive: true })
  const results = await bench({
    plan: choice === null ? wholePlan : planOf(choice),
    parts,
    rounds,
    length: { warmUp: 250, duration: seconds * 1000 },
    command: ['npm run bench', ...process.argv.slice(2)].join(' ').replace('bench ', 'bench -- '),
    execArgv: (subject, { delay, connections }) => profile ? ['--cpu-prof', `--cpu-prof-dir=${folder}`, `--cpu-prof-name=${subject}-${delay}-ms-${connections}.cpuprofile`] : [],
    say: (line) => console.error(line)
  })
  await writeFile(`${folder}/speed.json`, `${JSON.stringify(results, null, 2)}\n`)
  return results
}

const options = readOptions(process.argv.slice(2))
if (options === 'help') {
  console.log(help)
} else {
  const results: Results = options.from === undefined ? await run(options) : JSON.parse(await readFile(options.from, 'utf8'))
  console.log(figures(results))
  if (options.write) {
    await writeFile('docs/benchmark.md', page(results))
    await writeFile('docs/speed.svg', chart(results))
  }
}

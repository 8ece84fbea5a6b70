import { relative, resolve } from 'node:path'
import { type Builder, type InitArguments, initHelp, readInitArguments } from './init-arguments.ts'
import { checkProjectName, projectNameOf } from './project-name.ts'
import { projectFiles } from './project-files.ts'
import { askForAnswers } from './prompts.ts'
import { checkFolder, writeFiles } from './write-files.ts'
import { UsageError } from './usage-error.ts'

/**
 * `fastify-pg-scope init`: writes a new app into a folder that is empty or does not exist.
 *
 * @throws UsageError for arguments that cannot be meant, and for questions that cannot be asked
 */
export async function init (args: string[]): Promise<void> {
  const given = readInitArguments(args)
  if (given.help) {
    process.stdout.write(initHelp)
    return
  }
  // Before any question, so that no answer is in vain.
  if (given.folder !== undefined) await checkTarget(given.folder)
  const { folder, ...project } = await complete(given)
  const target = await checkTarget(folder)
  const name = projectNameOf(folder)
  const files = await projectFiles({ name, ...project })
  await writeFiles(target, files)
  process.stdout.write(report(name, relative('', target), [...files.keys()]))
}

/** What `init` needs to know. */
interface InitAnswers {
  folder: string
  javascript: boolean
  builder: Builder | null
  pgbouncer: boolean
}

async function complete (given: InitArguments): Promise<InitAnswers> {
  if (!given.yes) {
    if (process.stdin.isTTY && process.stdout.isTTY) return await askForAnswers(given, checkTarget)
    throw new UsageError('`init` cannot ask questions here, because this is not a terminal. Add `--yes`, ' +
      'and the options that you want')
  }
  const { folder, javascript = false, builder = null, pgbouncer = false } = given
  if (folder === undefined) {
    throw new UsageError('A folder for the new app is missing: fastify-pg-scope init my-app --yes')
  }
  return { folder, javascript, builder, pgbouncer }
}

/** @returns the path of the folder, which can be written to as far as can be said before */
async function checkTarget (folder: string): Promise<string> {
  checkProjectName(projectNameOf(folder))
  const target = resolve(folder)
  await checkFolder(target)
  return target
}

function report (name: string, folder: string, files: string[]): string {
  const list = files.map((file) => `  ${file}\n`).join('')
  const enter = folder === '' ? '' : `  cd ${/^[\w./@~-]+$/.test(folder) ? folder : JSON.stringify(folder)}\n`
  return `Wrote ${name}${['', name].includes(folder) ? '' : ` into ${folder}`}:

${list}
Next:

${enter}  npm install && npm start

\`npm test\` runs its tests. Neither needs a database: the app starts a PostgreSQL of its own for development.
`
}

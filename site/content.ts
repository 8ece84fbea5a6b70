// Gathers in content/ what VitePress reads: the pages of the repository with links among each other, and the reference,
// made of the TSDoc of each export.
import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { basename, dirname, extname, join } from 'node:path'
import { Application, type TypeDocOptions } from 'typedoc'
import { elsewhere } from './pages.ts'

const site = import.meta.dirname
const root = join(site, '..')
const content = join(site, 'content')

rmSync(content, { recursive: true, force: true })
mkdirSync(join(content, 'public'), { recursive: true })
for (const file of readdirSync(join(root, 'docs'))) {
  if (extname(file) === '.md') writePage(basename(file, '.md'), `docs/${file}`)
  // The pages show drawings as images, and link to files that are to be downloaded.
  else cpSync(join(root, 'docs', file), join(content, ['.svg', '.png'].includes(extname(file)) ? '' : 'public', file))
}
for (const [name, path] of Object.entries(elsewhere)) writePage(name, path)
await writeReference()

function writePage (name: string, path: string): void {
  writeFileSync(join(content, `${name}.md`), withLinks(readFileSync(join(root, path), 'utf8')))
}

/** Pages of the site stand side by side. */
function withLinks (text: string): string {
  let result = text.replaceAll(/\]\((?:\.\.\/)?docs\//g, '](./')
  for (const [name, path] of Object.entries(elsewhere)) {
    result = result.replaceAll(`](../${path}`, `](./${name}.md`).replaceAll(`](${path}`, `](./${name}.md`)
  }
  // Files for download are in public/, of which the site knows no relative path.
  return result.replaceAll(/\]\((?:\.\/)?([\w-]+\.ini)\)/g, '](/$1){target="_self"}')
}

async function writeReference (): Promise<void> {
  const { name, exports } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
  const code = Object.entries<{ types?: string }>(exports).filter(([, { types }]) => types !== undefined)
  const options: TypeDocOptions & Record<string, unknown> = {
    entryPoints: code.map(([, { types }]) => join(root, types!.replace('dist/', '').replace('.d.ts', '.ts'))),
    tsconfig: join(root, 'tsconfig.build.json'),
    basePath: root,
    plugin: ['typedoc-plugin-markdown'],
    out: join(content, 'reference'),
    name: 'Reference',
    readme: 'none',
    disableSources: true,
    excludeInternal: true,
    excludePrivate: true,
    excludeExternals: true,
    logLevel: 'Error',
    entryFileName: 'index',
    hidePageHeader: true,
    hideBreadcrumbs: true,
    router: 'member',
    // The markup of pages is that of Vue's templates.
    sanitizeComments: true
  }
  const app = await Application.bootstrapWithPlugins(options)
  const project = await app.convert()
  if (project === undefined) throw new Error('The reference cannot be made: TypeScript has errors')
  // By the names that a user imports, not by those of their files.
  const folders = new Map(code.map(([path, { types }]) => [dirname(types!).replace('./dist/', ''), join(name, path)]))
  for (const module of project.children ?? []) module.name = folders.get(module.name) ?? module.name
  await app.generateOutputs(project)
  if (app.logger.hasErrors()) throw new Error('The reference cannot be made: see above')
}

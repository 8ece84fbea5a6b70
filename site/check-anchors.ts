// VitePress fails for a link to a page that is not there; this, for one to a heading that is not there.
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

const built = join(import.meta.dirname, '.vitepress/dist')
const files = readdirSync(built, { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.html'))
const htmlOf = new Map(files.map((file) => [`/${file.replace(/(?:index)?\.html$/, '')}`, readFileSync(join(built, file), 'utf8')]))
const anchorsOf = new Map(Array.from(htmlOf, ([path, html]) =>
  [path, new Set(Array.from(html.matchAll(/ id="([^"]+)"/g), ([, id]) => id!))]))

const broken: string[] = []
let links = 0
for (const [path, html] of htmlOf) {
  for (const [, target, anchor] of html.matchAll(/ href="(\/[^"#]*)?#([^"]+)"/g)) {
    links++
    const anchors = anchorsOf.get(target ?? path)
    if (anchors === undefined || !anchors.has(decodeURIComponent(anchor!))) broken.push(`${path}: ${target ?? ''}#${anchor}`)
  }
}
console.log(`${links} links to headings, ${broken.length} broken`)
for (const link of new Set(broken)) console.log(`  ${link}`)
if (broken.length > 0 || links === 0) process.exitCode = 1

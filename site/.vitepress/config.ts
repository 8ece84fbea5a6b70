import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { defineConfig } from 'vitepress'
import { elsewhere, groups } from '../pages.ts'
import { slugify } from '../slugify.ts'

const root = join(import.meta.dirname, '../..')
const isThere = (name: string): boolean => name in elsewhere || existsSync(join(root, 'docs', `${name}.md`))

const listed = new Set(groups.flatMap(({ pages }) => pages.map(([name]) => name)))
const unlisted = readdirSync(join(root, 'docs')).filter((file) => file.endsWith('.md'))
  .map((file) => file.slice(0, -'.md'.length)).filter((name) => !listed.has(name))
const more = { text: 'More', pages: unlisted.map((name) => [name, titleOf(name)] as [string, string]) }

function titleOf (name: string): string {
  return /^# (.*)$/m.exec(readFileSync(join(root, 'docs', `${name}.md`), 'utf8'))?.[1] ?? name
}

/** What a user can import: `.`, `./kysely`. */
const { exports } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
const modules = Object.entries<{ types?: string }>(exports).filter(([, { types }]) => types !== undefined)
  .map(([path]) => join('fastify-pg-scope', path))

export default defineConfig({
  title: 'fastify-pg-scope',
  description: 'One PostgreSQL session for each Fastify request',
  srcDir: 'content',
  cleanUrls: true,
  lastUpdated: false,
  // A link that leads nowhere fails the build.
  ignoreDeadLinks: false,
  markdown: {
    anchor: { slugify },
    // The pages have no markup of their own: what looks like it is a type.
    config: (markdown) => { markdown.set({ html: false }) },
    languageAlias: { console: 'shellsession' }
  },
  themeConfig: {
    nav: [
      { text: 'Guide', link: '/' },
      { text: 'Options', link: '/options' },
      { text: 'Errors', link: '/errors' },
      { text: 'Reference', link: '/reference/' }
    ],
    sidebar: [
      ...[...groups, ...(unlisted.length === 0 ? [] : [more])].map(({ text, pages }) => ({
        text,
        items: pages.filter(([name]) => isThere(name)).map(([name, title]) => ({
          text: title, link: name === 'index' ? '/' : `/${name}`
        }))
      })),
      {
        text: 'Reference',
        items: modules.map((module) => ({ text: module, link: `/reference/${module}/` }))
      }
    ],
    outline: [2, 3],
    search: { provider: 'local' }
  }
})

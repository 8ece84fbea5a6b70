// Node 22.18 and later run TypeScript by themselves. Older versions do it with tsx.
if (!process.features.typescript) await import('tsx')

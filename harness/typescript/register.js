// How tap runs TypeScript here (package.json, tap.node-arg). Its own way loads the compiler in every process and compiles all
// that is imported there once more, which takes longer than most tests: here each file is compiled once. Newer Node removes
// types by itself, but knows `await using` only from 24 on.
import { register } from 'node:module'

register('./hooks.js', import.meta.url)

export default { test: { include: ['with-vitest.mjs'] } }

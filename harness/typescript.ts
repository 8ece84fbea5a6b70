/**
 * Arguments with which Node runs TypeScript in a process of its own, as tap runs the tests (see harness/typescript).
 */
export const typeScript = [`--import=${new URL('./typescript/register.js', import.meta.url)}`, '--enable-source-maps']

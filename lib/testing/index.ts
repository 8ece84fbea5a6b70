export { openSandbox, type Sandbox, type SandboxOptions, type TestedApp } from './sandbox.ts'
export { cloneDatabase, type CloneOptions, type DatabaseClone } from './clone-database.ts'

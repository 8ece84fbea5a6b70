import './kysely-cases.ts'

import './drizzle-cases.ts'

/**
 * The owner of the tables makes them, in a migration. The app logs in as another role, which owns nothing: row level
 * security holds for it, and it may do nothing but what is granted here.
 *
 * A tenant is a setting of the transaction. Without one, current_setting() is NULL or '', and no row has that tenant.
 */
export const schema = `
  create table notes (
    id bigint generated always as identity primary key,
    tenant text not null default current_setting('app.tenant') check (tenant <> ''),
    text text not null
  );
  create index on notes (tenant);
  alter table notes enable row level security;
  -- For the owner too.
  alter table notes force row level security;
  create policy own_rows on notes
    using (tenant = current_setting('app.tenant', true))
    with check (tenant = current_setting('app.tenant', true));
  create role tenant nologin;
  grant select, insert, update, delete on notes to tenant;`

/** The role of the app's connections: it has no right of its own, and each transaction takes the role of a tenant. */
export function loginRole (password: string): string {
  if (!/^[\w-]+$/.test(password)) throw new Error('the password must be made of letters, digits, _ and -')
  return `create role app login noinherit password '${password}'; grant tenant to app`
}

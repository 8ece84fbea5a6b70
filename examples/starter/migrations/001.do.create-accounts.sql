-- Amounts are whole cents. Up to 2^53 - 1 a JavaScript number is exact.
-- src/plugins/errors.ts reads the names of the constraints.
create table accounts (
  id integer generated always as identity primary key,
  owner text not null check (char_length(owner) between 1 and 200),
  balance bigint not null,
  constraint balance_not_negative check (balance >= 0),
  constraint balance_exact check (balance <= 9007199254740991)
);

create table transfers (
  id integer generated always as identity primary key,
  sender integer not null references accounts,
  receiver integer not null references accounts,
  amount integer not null check (amount between 1 and 1000000000),
  at timestamptz not null default now(),
  check (sender <> receiver)
);

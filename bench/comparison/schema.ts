/** Each request writes a row that bears its tag, by which the parent finds out whether its work was saved. */
export const schema = `
  CREATE TABLE entries (id serial PRIMARY KEY, tag text NOT NULL);
  CREATE TABLE owners (id int PRIMARY KEY);
  CREATE TABLE pets (owner int REFERENCES owners DEFERRABLE INITIALLY DEFERRED)`

/** In a session or in autocommit, one statement. */
export const write = 'INSERT INTO entries (tag) VALUES ($1)'

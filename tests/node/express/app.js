// An ordinary Express application with express-session: nothing in it knows of Sojourn.
//
//   STORE=postgresql://… | redis://…   where sessions are
//   MODULE=…                           a module that makes the store instead, and other options of session()
//   TABLE, SCHEMA, PREFIX, MAX_AGE, SECRETS (separated by commas)
//
// Prints {"port": N} once it listens. GET /slow prints {"slow": "in"} when it has its session, and
// waits for POST /release before it changes it.

import express from 'express';
import session from 'express-session';

const env = process.env;
const options = env.MODULE
  ? (await import(env.MODULE)).default()
  : { store: env.STORE.startsWith('postgres') ? await postgres() : await redis() };

async function postgres() {
  const { default: connect } = await import('connect-pg-simple');
  const PgStore = connect(session);
  return new PgStore({
    conString: env.STORE,
    tableName: env.TABLE || undefined,
    schemaName: env.SCHEMA || undefined,
    createTableIfMissing: env.CREATE === '1',
  });
}

async function redis() {
  const { createClient } = await import('redis');
  const { RedisStore } = await import('connect-redis');
  const client = createClient({ url: env.STORE });
  await client.connect();
  return new RedisStore({ client, prefix: env.PREFIX || undefined });
}

const app = express();
const open = [];

app.post('/release', (request, response) => {
  open.splice(0).forEach((release) => release());
  response.json({});
});
app.use(express.json());
app.use(
  session({
    ...options,
    secret: env.SECRETS.split(','),
    resave: false,
    saveUninitialized: false,
    cookie: { maxAge: Number(env.MAX_AGE || 3600000), sameSite: env.SAME_SITE || undefined },
  }),
);

app.get('/me', (request, response) => {
  const { cookie, ...data } = request.session;
  response.json({ id: request.sessionID, user: data.passport?.user ?? null, data, cookie });
});
app.post('/login', (request, response, next) => {
  request.session.regenerate((error) => {
    if (error) return next(error);
    request.session.passport = { user: request.body.user };
    request.session.save((fault) => (fault ? next(fault) : response.json({ id: request.sessionID })));
  });
});
app.post('/set', (request, response) => {
  Object.assign(request.session, request.body);
  response.json({});
});
app.post('/logout', (request, response, next) => {
  request.session.destroy((error) => (error ? next(error) : response.json({})));
});
app.post('/slow', (request, response) => {
  open.push(() => {
    Object.assign(request.session, request.body);
    request.session.save((error) => response.json({ error: error?.message ?? null }));
  });
  console.log(JSON.stringify({ slow: 'in' }));
});
app.use((error, request, response, next) => {
  response.status(500).json({ error: error.message });
});

const server = app.listen(0, '127.0.0.1', () => {
  console.log(JSON.stringify({ port: server.address().port }));
});

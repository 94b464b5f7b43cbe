// What the Express application of the tests is given for its sessions: the Store on a Sojourn server.

import process from 'node:process';

const { sojourn } = await import(process.env.EXPRESS_ENTRY);

export default () => sojourn({ url: process.env.STORE, key: process.env.KEY });

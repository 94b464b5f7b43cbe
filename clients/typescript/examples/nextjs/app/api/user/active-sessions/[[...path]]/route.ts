/** The calls of the page of active sessions, handed on with the token that the cookie holds: a page never sees it. */
import { activeSessions } from "@sojourn/client/node";
import { token } from "../../../../../lib/session";

const handle = (request: Request) => activeSessions({ url: process.env.SOJOURN_URL!, token })(request);

export { handle as DELETE, handle as GET, handle as PATCH, handle as POST };

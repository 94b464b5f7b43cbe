/** The session of the request that is being answered: its cookie holds a token, a Sojourn server the rest. */
import { cookies, headers } from "next/headers";
import { cache } from "react";
import { type Session, Sessions, SojournError } from "@sojourn/client/node";

const isHttps = process.env.SITE_URL?.startsWith("https:");
/** With `__Host-` no other host, and no page without HTTPS, can set it. */
export const COOKIE = isHttps ? "__Host-session" : "session";

let known: Sessions | undefined;

/** Made with the first request: a build knows neither address nor key. */
export function sessions(): Sessions {
  return (known ??= new Sessions({ url: process.env.SOJOURN_URL!, key: process.env.SOJOURN_KEY! }));
}

export async function token(): Promise<string | undefined> {
  return (await cookies()).get(COOKIE)?.value;
}

/** Who is signed in; undefined: nobody. Asks once for each request, however many components ask. */
export const current = cache(async (): Promise<Session | undefined> => {
  const found = await token();
  if (!found) return undefined;
  try {
    return await sessions().check(found);
  } catch (fault) {
    const isOver = fault instanceof SojournError && fault.is("session_absent", "session_idle", "session_expired", "session_ended", "session_forged");
    if (isOver) return undefined;
    throw fault; // the server is away: nobody is signed out by that
  }
});

/** Signs a person in, in place of the session of before. Call it from a server action: those set cookies. */
export async function begin(userId: string): Promise<void> {
  const said = await headers();
  const ip = said.get("x-forwarded-for")?.split(",")[0]; // of your proxy: name it, or leave it out
  const device = { userAgent: said.get("user-agent") ?? "", ...(ip && { ip }) };
  const begun = await sessions().begin({ userId, device }, await token());
  (await cookies()).set(COOKIE, begun.token, { httpOnly: true, secure: isHttps, sameSite: "lax", path: "/" });
}

export async function end(): Promise<void> {
  const found = await token();
  if (found) await sessions().end(found);
  (await cookies()).delete(COOKIE);
}

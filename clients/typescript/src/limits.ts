// How long a seat's keeper waits, trusts and tries; milliseconds unless something else is said.

/** Milliseconds of each second of a lease. */
export const TRUSTED = 980;
export const RETRIES = 3;
export const RETRY_MS = 5_000;
export const BACKOFF_MAX = 30_000;
export const SOCKET_BACKOFF_MAX = 60_000;
/** Seconds: an extension's worker may not wait for longer for an answer, nor may many proxies. */
export const WAIT_MAX = 20;
/** Seconds in which a page in the background beats, at least: browsers wake it once a minute. */
export const THROTTLED = 60;
/** A server tells of itself each 20 s, or interval if that is shorter; so many of these without a word are too many. */
export const TELL_EVERY = 20_000;
export const QUIET = 2.25;
export const CONFIRM = 2_000;
export const RESTART_MS = 10_000;
/** Losses somebody meant: to come back by itself would be to fight a person, or a twin. */
export const FINAL = /^(taken_over|moved|revoked|released|session_ended|license_.*|forbidden|cross_origin|feature_unknown)$/;

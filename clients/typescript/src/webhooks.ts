/** Standard Webhooks 1.0: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md */

const PREFIX = "whsec_";
/** Bytes of a secret: of a shorter one signatures can be guessed. */
const KEY_MIN = 24;
const SIGNATURES_MAX = 16;
/** Seconds; a message that is older, or from further in the future, may have been recorded. */
export const TOLERANCE = 300;

/** What came is not, or not provably, a message of the webhook: answer 400 and do nothing. */
export class WebhookRefused extends Error {
  override name = "WebhookRefused";
  readonly code = "webhook_refused";
}

/** A message that was verified. `id` is the same however often it comes. */
export interface WebhookMessage<T = Record<string, unknown>> {
  id: string;
  type: string;
  timestamp: string;
  data: T;
}

type Named = Headers | Record<string, string | string[] | undefined>;

/**
 * Returns the message if one of the secrets signed it lately; throws WebhookRefused otherwise. `body` is the raw body,
 * byte for byte as it came. Keep the ids you have seen for a few days: what was delivered may be delivered again.
 */
export async function verifyWebhook<T = Record<string, unknown>>(
  headers: Named,
  body: Uint8Array | string,
  secrets: string | readonly string[],
  { tolerance = TOLERANCE, now = Date.now() / 1000 }: { tolerance?: number; now?: number } = {},
): Promise<WebhookMessage<T>> {
  const id = header(headers, "webhook-id");
  const stamp = header(headers, "webhook-timestamp");
  const presented = header(headers, "webhook-signature").split(" ").slice(0, SIGNATURES_MAX);
  if (!/^\d{1,12}$/.test(stamp)) throw new WebhookRefused("The webhook-timestamp is no number of seconds.");
  if (Math.abs(now - Number(stamp)) > tolerance) throw new WebhookRefused("The message is too old, or from the future.");
  const given = [secrets].flat().map((each) => each.trim()).filter((each) => each !== "" && each !== PREFIX);
  if (!given.length) throw new WebhookRefused("There is no secret to verify with.");
  const bytes = typeof body === "string" ? new TextEncoder().encode(body) : body;
  const signed = joined(new TextEncoder().encode(`${id}.${stamp}.`), bytes);
  const keys = await Promise.all(given.map(keyOf));
  // `verify` compares in constant time, and all are compared: how long it took tells nothing.
  const found = await Promise.all(
    keys.flatMap((key) => presented.map((each) => crypto.subtle.verify("HMAC", key, signatureOf(each), signed))),
  );
  if (!found.includes(true)) throw new WebhookRefused("No signature is by any of the secrets.");
  return { ...read<T>(bytes), id };
}

function header(headers: Named, name: string): string {
  const plain = headers instanceof Headers ? headers.get(name) : Object.entries(headers).find(([key]) => key.toLowerCase() === name)?.[1];
  const value = Array.isArray(plain) ? plain.join(" ") : plain;
  if (value == null) throw new WebhookRefused(`The header ${name} is missing.`);
  return value;
}

function keyOf(secret: string): Promise<CryptoKey> {
  const key = decoded(secret.startsWith(PREFIX) ? secret.slice(PREFIX.length) : secret);
  if (!key) throw new WebhookRefused(`The secret is garbled: it begins with ${PREFIX} and goes on in base64.`);
  if (key.length < KEY_MIN) throw new WebhookRefused("The secret is empty, or too short to prove anything.");
  return crypto.subtle.importKey("raw", key, { name: "HMAC", hash: "SHA-256" }, false, ["verify"]);
}

function signatureOf(presented: string): Uint8Array<ArrayBuffer> {
  return (presented.startsWith("v1,") && decoded(presented.slice(3))) || new Uint8Array(32);
}

function decoded(text: string): Uint8Array<ArrayBuffer> | undefined {
  try {
    return Uint8Array.from(atob(text.replace(/=+$/, "")), (digit) => digit.charCodeAt(0));
  } catch {
    return undefined;
  }
}

function joined(first: Uint8Array, second: Uint8Array): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(first.length + second.length);
  whole.set(first);
  whole.set(second, first.length);
  return whole;
}

function read<T>(body: Uint8Array): Omit<WebhookMessage<T>, "id"> {
  try {
    const { type, timestamp, data } = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(body));
    if (typeof type === "string" && typeof timestamp === "string" && data && typeof data === "object") return { type, timestamp, data };
  } catch {
    // It was signed, but by somebody who sends something else: below.
  }
  throw new WebhookRefused("The body is not what a webhook sends.");
}

import { current } from "../../lib/session";

export default async function Profile() {
  const session = await current();
  return <p>You are {session?.userId}.</p>;
}

import { current } from "../lib/session";
import { signIn, signOut } from "./actions";

export default async function Home() {
  const session = await current();
  if (!session)
    return (
      <form action={signIn}>
        <label>
          Name <input name="user" required autoComplete="username" />
        </label>
        <button>Sign in</button>
      </form>
    );
  return (
    <form action={signOut}>
      <p>Hello, {session.userId}.</p>
      <button>Sign out</button>
    </form>
  );
}

import { ActiveSessions } from "./active-sessions";

export default function Page() {
  return <ActiveSessions />;
}

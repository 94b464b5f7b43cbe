import { redirect } from "next/navigation";
import type { ReactNode } from "react";
import { current } from "../../lib/session";
import { Tabs } from "./tabs";

export default async function Settings({ children }: { children: ReactNode }) {
  if (!(await current())) redirect("/");
  return (
    <>
      <h1>Settings</h1>
      <Tabs />
      {children}
    </>
  );
}

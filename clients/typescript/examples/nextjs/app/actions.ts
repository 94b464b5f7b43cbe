"use server";

import { redirect } from "next/navigation";
import { begin, end } from "../lib/session";

/** Next.js takes an action from pages of its own origin alone. Your own check of the password goes here. */
export async function signIn(form: FormData): Promise<void> {
  const user = String(form.get("user") ?? "").trim();
  if (user) await begin(user);
  redirect("/");
}

export async function signOut(): Promise<void> {
  await end();
  redirect("/");
}

"use client";

import Link from "next/link";
import { usePathname } from "next/navigation";

const TABS = [
  ["/settings", "Profile"],
  ["/settings/sessions", "Active sessions"],
] as const;

export function Tabs() {
  const path = usePathname();
  return (
    <nav aria-label="Settings">
      {TABS.map(([href, title]) => (
        <Link key={href} href={href} aria-current={path === href ? "page" : undefined}>
          {title}
        </Link>
      ))}
    </nav>
  );
}

import type { NextConfig } from "next";

const config: NextConfig = {
  turbopack: { root: import.meta.dirname }, // not the folder above, which has a lock file, too
};

export default config;

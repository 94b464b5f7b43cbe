"""An application as a browser sees it: over HTTP, following cookies by the browsers' own rules."""

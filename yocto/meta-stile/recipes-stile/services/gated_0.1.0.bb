SUMMARY = "Turnstile and readers of a Stile box"
DESCRIPTION = "Verifies entry codes offline and drives the turnstile's lines; the watcher beside it lets them fall when it dies."

inherit stile-service

STILE_PROGRAMS = "gated gate-failsafe"

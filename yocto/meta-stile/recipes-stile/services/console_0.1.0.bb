SUMMARY = "Staff page of a Stile store"
DESCRIPTION = "Review queue, state of gate and store, API and metrics over HTTP."

inherit stile-service

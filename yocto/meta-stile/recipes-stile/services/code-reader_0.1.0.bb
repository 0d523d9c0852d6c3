SUMMARY = "Codes from a camera, read in a process without rights"
DESCRIPTION = "gated starts it where a lane's scanner is a camera; it has no unit of its own."

inherit stile-service

STILE_UNITS = ""

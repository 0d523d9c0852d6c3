SUMMARY = "Ceiling cameras of a Stile store"
DESCRIPTION = "Finds people on the floor plan by a small network and follows them as numbers."

inherit stile-service

RDEPENDS:${PN} += "onnxruntime-bin stile-models"

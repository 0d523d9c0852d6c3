SUMMARY = "The image of a Stile box"
require stile-image.inc

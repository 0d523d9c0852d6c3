#!/usr/bin/env python3
"""The packages of an image as a table of Markdown: recipe, version, licence, packages.

packages.py LICENSE.MANIFEST

The manifest is the one that bitbake leaves for every image in deploy/licenses/MACHINE/IMAGE-…/license.manifest.
"""

import sys


def table(manifest):
    """A line for each recipe, version and licence that the manifest names."""
    rows = {}
    for block in manifest.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
        if "PACKAGE NAME" in fields:
            key = fields["RECIPE NAME"], fields["PACKAGE VERSION"], fields["LICENSE"]
            rows.setdefault(key, []).append(fields["PACKAGE NAME"])
    lines = ["| recipe | version | licence | packages |", "|---|---|---|---|"]
    for (recipe, version, licence), packages in sorted(rows.items()):
        kernel = len(packages) > 8 and all(name.startswith("kernel") for name in packages)
        names = f"{len(packages)} packages: kernel, its image and modules" if kernel else ", ".join(sorted(packages))
        # A bar would end the cell.
        licence = licence.replace("|", "or").replace("&", "and")
        lines.append(f"| {recipe} | {version} | {licence} | {names} |")
    return lines, len({recipe for recipe, _, _ in rows}), sum(map(len, rows.values()))


if __name__ == "__main__":
    with open(sys.argv[1]) as manifest:
        lines, recipes, packages = table(manifest.read())
    print("\n".join(lines))
    print(f"{packages} packages of {recipes} recipes", file=sys.stderr)

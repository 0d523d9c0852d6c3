#!/usr/bin/env python3
"""Tests of the scripts of the layers: tests.py"""

import importlib.util
import pathlib
import unittest

YOCTO = pathlib.Path(__file__).resolve().parent.parent


def load(name, path):
    spec = importlib.util.spec_from_file_location(name, YOCTO / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


crates = load("crates", "scripts/crates.py")
packages = load("packages", "scripts/packages.py")
lock = load("debian_lock", "meta-stile-airgap/scripts/debian-lock.py")


class Crates(unittest.TestCase):
    def test_own_crates_are_not_downloaded(self):
        text = crates.text({"package": [
            {"name": "gated", "version": "0.1.0"},
            {"name": "serde", "version": "1.0.0", "source": crates.REGISTRY, "checksum": "ab"},
        ]})
        self.assertIn("crate://crates.io/serde/1.0.0", text)
        self.assertIn('SRC_URI[serde-1.0.0.sha256sum] = "ab"', text)
        self.assertNotIn("gated", text)

    def test_other_registries_are_refused(self):
        with self.assertRaisesRegex(SystemExit, "git"):
            crates.text({"package": [{"name": "x", "version": "1", "source": "git+https://example.org/x"}]})


class Packages(unittest.TestCase):
    def test_a_line_for_each_recipe_version_and_licence(self):
        block = "PACKAGE NAME: {}\nPACKAGE VERSION: 1.2\nRECIPE NAME: {}\nLICENSE: {}\n"
        of_kernel = [block.format(f"kernel-{number}", "linux", "GPL-2.0-only") for number in range(9)]
        lines, recipes, count = packages.table("\n".join([
            block.format("libb", "b", "MIT | BSD-3-Clause"), block.format("b", "b", "MIT | BSD-3-Clause"),
            block.format("b-tools", "b", "MIT & Zlib"), *of_kernel]))
        self.assertEqual(lines[2:], [
            "| b | 1.2 | MIT and Zlib | b-tools |",
            "| b | 1.2 | MIT or BSD-3-Clause | b, libb |",
            "| linux | 1.2 | GPL-2.0-only | 9 packages: kernel, its image and modules |",
        ])
        self.assertEqual((recipes, count), (2, 12))


class Lock(unittest.TestCase):
    def test_upstream_versions(self):
        for debian, upstream in [
            ("2.43-7", "2.43"),
            ("2:6.3.0+dfsg-5", "6.3.0"),
            ("1:1.3.dfsg+really1.3.2-4", "1.3.2"),
            ("1.9.2+git20250711+d1db9c219abf-2", "1.9.2"),
            ("3.6.8", "3.6.8"),
            ("257.13-1~deb13u1", "257.13"),
        ]:
            self.assertEqual(lock.upstream(debian), upstream, debian)

    def source(self, *names):
        return {"Package": "x", "Directory": "pool/main/x/x",
                "Checksums-Sha256": "\n" + "\n".join(f"{i:064x} 1 {name}" for i, name in enumerate(names))}

    def test_the_orig_tarball_is_taken(self):
        source = self.source("x_1.dsc", "x_1.orig-extra.tar.gz", "x_1.orig.tar.xz", "x_1.debian.tar.xz")
        self.assertEqual(lock.tarball(source), ("pool/main/x/x", "x_1.orig.tar.xz", f"{2:064x}"))

    def test_a_native_package_has_one(self):
        self.assertEqual(lock.tarball(self.source("x_1.dsc", "x_1.tar.xz"))[1], "x_1.tar.xz")

    def test_debians_own_part_is_no_source(self):
        with self.assertRaisesRegex(SystemExit, "no orig"):
            lock.tarball(self.source("x_1.dsc", "x_1.debian.tar.xz"))

    def test_fields_over_several_lines(self):
        found = lock.fields("Package: x\nChecksums-Sha256:\n aa 1 x.dsc\n bb 2 x.tar.xz\nVersion: 1")
        self.assertEqual(found["Checksums-Sha256"], "\naa 1 x.dsc\nbb 2 x.tar.xz")
        self.assertEqual(found["Version"], "1")


if __name__ == "__main__":
    unittest.main()

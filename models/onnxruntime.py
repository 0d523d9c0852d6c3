"""Unpacks ONNX Runtime's shared library from its wheel on PyPI: onnxruntime.py VERSION FOLDER [PROCESSOR].

PROCESSOR: x86_64, aarch64; this machine's when left out.
"""

import pathlib
import subprocess
import sys
import tempfile
import zipfile

version, folder = sys.argv[1], pathlib.Path(sys.argv[2])
# Each names the oldest C library that it takes; the wheel is of one of them.
platforms = [f"--platform=manylinux_2_{n}_{sys.argv[3]}" for n in (39, 34, 31, 28, 27, 17)] if len(sys.argv) > 3 else []
folder.mkdir(parents=True, exist_ok=True)
with tempfile.TemporaryDirectory() as scratch:
    # The library inside is the same for every Python; 3.12 has wheels for each platform.
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:",
         "--python-version=3.12", *platforms, f"--dest={scratch}", f"onnxruntime=={version}"],
        check=True,
    )
    wheel = next(pathlib.Path(scratch).glob("*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        name = next(n for n in archive.namelist() if "/libonnxruntime.so" in n)
        (folder / "libonnxruntime.so").write_bytes(archive.read(name))
        for licence in ("LICENSE", "ThirdPartyNotices.txt"):
            match = next((n for n in archive.namelist() if n.endswith(f"onnxruntime/{licence}")), None)
            if match:
                (folder / licence).write_bytes(archive.read(match))
print(f"ONNX Runtime {version} in {folder}")

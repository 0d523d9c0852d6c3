"""Unpacks ONNX Runtime's shared library from its wheel on PyPI: onnxruntime.py VERSION FOLDER."""

import pathlib
import subprocess
import sys
import tempfile
import zipfile

version, folder = sys.argv[1], pathlib.Path(sys.argv[2])
folder.mkdir(parents=True, exist_ok=True)
with tempfile.TemporaryDirectory() as scratch:
    # The library inside is the same for every Python; 3.12 has wheels for each platform.
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:",
         "--python-version=3.12", f"--dest={scratch}", f"onnxruntime=={version}"],
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

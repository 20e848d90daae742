"""The corpus: one ordinary image of about 1.8 GB in three layers, in four packagings. Nothing is planted in it.

Layers are cached one by one under work/layers by the content of their pin file, the image under work/corpus by its
layers. Everything is written under a temporary name and renamed when whole, so a broken run leaves nothing to trust.
"""

import gzip
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
WORK = HERE / "work"
LAYERS = WORK / "layers"
STAGE = WORK / "stage"
CORPUS = WORK / "corpus"
REFERENCE = "compare/corpus:1"

# Raise when the code below makes different layers from the same pin files.
RECIPE = 1
EPOCH = 1_767_225_600  # 2026-01-01: the time stamp of everything made here
NPM_BEFORE = "2026-11-21"  # what package.json leaves open is resolved as of this day
SUITE = "bookworm"
SITE_PACKAGES = "usr/local/lib/python3.11/site-packages"
WHEEL_PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")

OCI = "application/vnd.oci.image"


def images():
    """The packagings by name, each a path below work/corpus."""
    return {
        "docker-save tar": CORPUS / "docker-save.tar",
        "OCI layout, gzip": CORPUS / "oci-gzip",
        "OCI archive, gzip": CORPUS / "oci-gzip.tar",
        "OCI archive, zstd": CORPUS / "oci-zstd.tar",
    }


def build(python, log):
    """Builds what is missing; `python` is an interpreter with pip, `log` takes the output of the commands run."""
    shutil.rmtree(STAGE, ignore_errors=True)
    STAGE.mkdir()
    LAYERS.mkdir(exist_ok=True)
    layers = [
        make_layer("debian", "packages.txt", "ADD rootfs.tar /", fill_debian, log),
        make_layer("python", "requirements.txt", "RUN pip install -r requirements.txt",
                   lambda tar, log: fill_python(tar, python, log), log),
        make_layer("node", "package.json", "RUN npm install", fill_node, log),
    ]
    stamp = CORPUS / "layers.json"
    wanted = json.dumps({"recipe": RECIPE, "layers": layers}, indent=1)
    if not (stamp.exists() and stamp.read_text() == wanted):
        package(layers, wanted, log)
    return layers


# Layers


def make_layer(name, pins, created_by, fill, log):
    """One gzip layer and its facts, from the cache when its pin file has not changed."""
    key = hashlib.sha256(f"{RECIPE}\n".encode() + (HERE / pins).read_bytes()).hexdigest()[:12]
    blob, facts_file = LAYERS / f"{name}-{key}.tar.gz", LAYERS / f"{name}-{key}.json"
    if blob.exists() and facts_file.exists():
        return json.loads(facts_file.read_text())
    print(f"building layer {name} …", file=sys.stderr, flush=True)
    for stale in LAYERS.glob(f"{name}-*"):
        stale.unlink()
    partial = blob.with_suffix(".partial")
    with open(partial, "wb") as file:
        packed = Hashing(file)
        with gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=packed, mtime=0) as inner:
            raw = Hashing(inner)
            with tarfile.open(fileobj=raw, mode="w|", bufsize=1 << 20, format=tarfile.PAX_FORMAT) as tar:
                fill(tar, log)
    facts = {"file": blob.name, "created_by": created_by, "digest": packed.digest(), "size": packed.size,
             "diff_id": raw.digest(), "raw_size": raw.size}
    partial.rename(blob)
    write_whole(facts_file, json.dumps(facts))
    return facts


class Hashing:
    """A file to write to that hashes and counts what passes."""

    def __init__(self, out):
        self.out, self.sha, self.size = out, hashlib.sha256(), 0

    def write(self, data):
        self.sha.update(data)
        self.size += len(data)
        return self.out.write(data)

    def flush(self):
        self.out.flush()

    def digest(self):
        return f"sha256:{self.sha.hexdigest()}"


def fill_debian(tar, log):
    """A Debian root file system from this machine's own sources, as a base image has it: no device nodes, no `./`."""
    packages = ",".join(pinned_lines(HERE / "packages.txt"))
    with tempfile.TemporaryDirectory(dir=STAGE) as stage:
        rootfs = Path(stage) / "rootfs.tar"
        call(["mmdebstrap", "--variant=minbase", f"--include={packages}", SUITE, rootfs, *debian_sources()], log,
             env={**os.environ, "SOURCE_DATE_EPOCH": str(EPOCH)})
        with tarfile.open(rootfs) as source:
            for member in source:
                member.name = member.name.removeprefix("./")
                if member.islnk():
                    member.linkname = member.linkname.removeprefix("./")
                if member.name and member.name != "." and not member.isdev():
                    member.mtime = int(member.mtime)
                    member.pax_headers = {}
                    tar.addfile(member, source.extractfile(member) if member.isreg() else None)


def debian_sources():
    """The machine's own file of sources for the suite, else none: mmdebstrap then takes Debian's main mirror."""
    for path in (Path("/etc/apt/sources.list.d/debian.sources"), Path("/etc/apt/sources.list")):
        if path.exists() and SUITE in path.read_text():
            return [path]
    return []


def fill_python(tar, python, log):
    """Wheels of Debian's Python 3.11, whatever Python runs this, with compiled modules as pip leaves them."""
    with tempfile.TemporaryDirectory(dir=STAGE) as stage:
        target = Path(stage) / SITE_PACKAGES
        platforms = [f"--platform={name}" for name in WHEEL_PLATFORMS]
        call([python, "-m", "pip", "install", "--no-deps", "--no-compile", "--only-binary=:all:", "--target", target,
              "--python-version=3.11", *platforms, "-r", HERE / "requirements.txt"], log)
        # Templates and tests for other versions do not compile, and that is as it should be: no check.
        call([python, "-m", "compileall", "-q", "-s", stage, "-p", "/", "--invalidation-mode=unchecked-hash", target],
             log, check=False)
        add_tree(tar, Path(stage))


def fill_node(tar, log):
    """An application's node_modules with native modules; install scripts stay off, they download from elsewhere."""
    with tempfile.TemporaryDirectory(dir=STAGE) as stage:
        app = Path(stage) / "app"
        app.mkdir()
        shutil.copy(HERE / "package.json", app)
        call(["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock",
              "--os=linux", "--cpu=x64", "--libc=glibc", f"--before={NPM_BEFORE}"], log, cwd=app)
        if not any(app.rglob("*.node")):
            raise RuntimeError("the npm packages brought no native module")
        add_tree(tar, Path(stage))


def add_tree(tar, root):
    """Adds everything below `root` in a fixed order, owned by root, with the fixed time stamp."""
    for path in sorted(root.rglob("*")):
        info = tar.gettarinfo(path, arcname=str(path.relative_to(root)))
        info.uid = info.gid = 0
        info.uname = info.gname = "root"
        info.mtime = EPOCH
        if info.isreg():
            with open(path, "rb") as file:
                tar.addfile(info, file)
        else:
            tar.addfile(info)


# Packagings


def package(layers, stamp, log):
    """Writes the OCI layout, lets skopeo make the docker-save tar and the zstd archive, and swaps the corpus in."""
    print("packaging the image …", file=sys.stderr, flush=True)
    fresh = WORK / "corpus.partial"
    shutil.rmtree(fresh, ignore_errors=True)
    layout = fresh / "oci-gzip"
    write_layout(layout, layers)
    with tarfile.open(fresh / "oci-gzip.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        add_tree(tar, layout)
    source = f"oci:{layout}:{REFERENCE}"
    skopeo = ["skopeo", "--insecure-policy", "--tmpdir", fresh, "copy"]
    call([*skopeo, source, f"docker-archive:{fresh / 'docker-save.tar'}:{REFERENCE}"], log)
    call([*skopeo, "--dest-compress-format=zstd", source, f"oci-archive:{fresh / 'oci-zstd.tar'}:{REFERENCE}"], log)
    check_packagings(fresh)
    (fresh / "layers.json").write_text(stamp)
    shutil.rmtree(CORPUS, ignore_errors=True)
    fresh.rename(CORPUS)


def write_layout(layout, layers):
    """An OCI image layout of the gzip layers (image-spec, image-layout.md)."""
    blobs = layout / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    for layer in layers:
        os.link(LAYERS / layer["file"], blobs / layer["digest"].removeprefix("sha256:"))
    config = put(blobs, f"{OCI}.config.v1+json", image_config(layers))
    tar_gzip = f"{OCI}.layer.v1.tar+gzip"
    manifest = put(blobs, f"{OCI}.manifest.v1+json", {
        "schemaVersion": 2, "mediaType": f"{OCI}.manifest.v1+json", "config": config,
        "layers": [{"mediaType": tar_gzip, "digest": layer["digest"], "size": layer["size"]} for layer in layers]})
    manifest["annotations"] = {"org.opencontainers.image.ref.name": REFERENCE}
    (layout / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [manifest]}))


def image_config(layers):
    """An ordinary configuration: a web application that listens on one port."""
    created = "2026-01-01T00:00:00Z"
    history = [{"created": created, "created_by": layer["created_by"]} for layer in layers]
    settings = ("WORKDIR /app", "ENV NODE_ENV=production", "EXPOSE 3000/tcp", 'CMD ["node" "server.js"]')
    history += [{"created": created, "created_by": line, "empty_layer": True} for line in settings]
    return {
        "created": created, "architecture": "amd64", "os": "linux",
        "config": {"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "NODE_ENV=production"],
                   "ExposedPorts": {"3000/tcp": {}}, "WorkingDir": "/app", "Cmd": ["node", "server.js"]},
        "rootfs": {"type": "layers", "diff_ids": [layer["diff_id"] for layer in layers]}, "history": history}


def put(blobs, media_type, value):
    """Stores `value` as a JSON blob and returns its descriptor."""
    data = json.dumps(value, sort_keys=True).encode()
    digest = hashlib.sha256(data).hexdigest()
    (blobs / digest).write_bytes(data)
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}


def check_packagings(folder):
    """Raises unless skopeo wrote raw layers into the docker-save tar and zstd layers into the archive."""
    with tarfile.open(folder / "docker-save.tar") as tar:
        layers = json.load(tar.extractfile("manifest.json"))[0]["Layers"]
        starts = [tar.extractfile(name).read(262)[257:262] for name in layers]
    if starts != [b"ustar"] * 3:
        raise RuntimeError("the docker-save tar does not hold three raw layers")
    with tarfile.open(folder / "oci-zstd.tar") as tar:
        manifest = json.load(tar.extractfile("index.json"))["manifests"][0]["digest"].replace(":", "/")
        types = [layer["mediaType"] for layer in json.load(tar.extractfile(f"blobs/{manifest}"))["layers"]]
    if types != [f"{OCI}.layer.v1.tar+zstd"] * 3:
        raise RuntimeError("the archive does not hold three zstd layers: this skopeo cannot recompress")


# Small things


def pinned_lines(path):
    """The lines of a list that are neither empty nor comments."""
    return [line for line in map(str.strip, path.read_text().splitlines()) if line and not line.startswith("#")]


def write_whole(path, text):
    """Writes a file so that it is either absent or complete."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text)
    partial.rename(path)


def call(command, log, check=True, **options):
    """Runs a command with its output appended to `log`; a failure names the log."""
    log.write(f"$ {' '.join(map(str, command))}\n")
    log.flush()
    code = subprocess.run([str(part) for part in command], stdin=subprocess.DEVNULL, stdout=log,
                          stderr=subprocess.STDOUT, **options).returncode
    if check and code:
        raise RuntimeError(f"{command[0]} failed with status {code}; see {log.name}")

"""Tar archives and docker-save files, written byte by byte.

Not `tarfile`: its bytes have changed between versions of Python, and the image has to come out the same everywhere.
Formats: POSIX.1-2001 pax (ustar headers and `path` records), OCI image layout 1.1, and the order, modes and times
that `docker save` of Docker 25 and later gives its entries.
"""

import hashlib
import json
from dataclasses import dataclass

BLOCK = 512
DIRECTORY, FILE, HARD_LINK, SYMLINK = b"5", b"0", b"1", b"2"

LAYER = "application/vnd.oci.image.layer.v1.tar"
CONFIG = "application/vnd.oci.image.config.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"


@dataclass
class Entry:
    """One entry of a tar archive; a directory's name ends in `/`."""

    name: str
    data: bytes = b""
    kind: bytes = FILE
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    link: str = ""
    mtime: int | None = None


def directory(name, mode=0o755, uid=0, gid=0):
    return Entry(name.rstrip("/") + "/", kind=DIRECTORY, mode=mode, uid=uid, gid=gid)


def tar(entries, mtime):
    """The archive of `entries`, those without a time of their own at `mtime` (seconds since 1970)."""
    out = bytearray()
    for entry in entries:
        out += member(entry, mtime if entry.mtime is None else entry.mtime)
    return bytes(out) + bytes(2 * BLOCK)


def member(entry, mtime):
    name = entry.name.encode()
    extended = b""
    if len(name) > 100:
        record = pad(pax_record("path", name))
        extended = header(b"PaxHeaders.0/" + name[-80:], b"x", 0o644, 0, 0, len(pax_record("path", name)), 0) + record
    fields = (entry.kind, entry.mode, entry.uid, entry.gid, len(entry.data), mtime)
    return extended + header(name[:100], *fields, link=entry.link.encode()) + pad(entry.data)


def header(name, kind, mode, uid, gid, size, mtime, link=b""):
    octal = [(mode, 8), (uid, 8), (gid, 8), (size, 12), (mtime, 12)]
    numbers = b"".join(b"%0*o\0" % (width - 1, value) for value, width in octal)
    tail = kind + link.ljust(100, b"\0") + b"ustar\0" + b"00" + bytes(64) + b"0000000\0" * 2 + bytes(167)
    head = name.ljust(100, b"\0") + numbers
    total = sum(head) + sum(tail) + 8 * ord(" ")
    return head + b"%06o\0 " % total + tail


def pax_record(key, value):
    rest = b" %s=%s\n" % (key.encode(), value)
    length = len(rest)
    while length != len(rest) + len(str(length)):
        length = len(rest) + len(str(length))
    return b"%d" % length + rest


def pad(data):
    return data + bytes(-len(data) % BLOCK)


def compact(value):
    """JSON as Go writes it: no spaces, keys in the order given, `<`, `>` and `&` escaped."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    for char in "<>&":
        text = text.replace(char, "\\u%04x" % ord(char))
    return text.encode()


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def descriptor(media_type, data):
    return {"mediaType": media_type, "digest": digest(data), "size": len(data)}


def blob_path(blob_digest):
    return "blobs/" + blob_digest.replace(":", "/")


def docker_save(config, layers, repository, tag, created):
    """What `docker save repository:tag` writes for the configuration `config` and the `layers` (all bytes)."""
    described = [descriptor(LAYER, layer) for layer in layers]
    manifest = compact({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor(CONFIG, config),
        "layers": described,
    })
    names = {"io.containerd.image.name": f"{repository}:{tag}", "org.opencontainers.image.ref.name": tag}
    index = {
        "schemaVersion": 2,
        "mediaType": INDEX,
        "manifests": [descriptor(MANIFEST, manifest) | {"annotations": names}],
    }
    legacy = [{
        "Config": blob_path(digest(config)),
        "RepoTags": [f"{repository}:{tag}"],
        "Layers": [blob_path(layer["digest"]) for layer in described],
        "LayerSources": {layer["digest"]: layer for layer in sorted(described, key=lambda one: one["digest"])},
    }]
    top = described[-1]["digest"].removeprefix("sha256:")
    blobs = {digest(blob): (blob, created) for blob in [config, *layers]} | {digest(manifest): (manifest, 0)}
    entries = [directory("blobs/"), directory("blobs/sha256/")]
    entries += [Entry(blob_path(name), data, mtime=time) for name, (data, time) in sorted(blobs.items())]
    entries += [
        Entry("index.json", compact(index), mtime=created),
        Entry("manifest.json", compact(legacy) + b"\n", mtime=0),
        Entry("oci-layout", compact({"imageLayoutVersion": "1.0.0"}), mtime=0),
        Entry("repositories", compact({repository: {tag: top}}) + b"\n", mtime=0),
    ]
    return tar(entries, created)

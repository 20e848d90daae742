"""Tar archives and images, written by hand: libraries refuse to write what an attack needs."""

import hashlib
import io
import json
import os
import random
import zipfile
import zlib

END = bytes(1024)
DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def token(number=0):
    """A made-up GitHub token, with the checksum that real ones have."""
    choice = random.Random(number)
    body = "".join(choice.choice(DIGITS) for _ in range(30))
    rest, check = zlib.crc32(body.encode()), ""
    for _ in range(6):
        check, rest = DIGITS[rest % 62] + check, rest // 62
    return "ghp_" + body + check


def tokens(count, first=0):
    return "\n".join(f"k{number}={token(number)}" for number in range(first, first + count)).encode()


def zipped(members):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return out.getvalue()


def header(name, size=0, kind=b"0", link=b""):
    name, link = encoded(name), encoded(link)
    block = bytearray(512)
    block[0 : len(name[:100])] = name[:100]
    block[100:108] = b"0000644\0"
    block[108:124] = b"0000000\0" * 2
    block[124:136] = b"%011o\0" % size if size < 8**11 else b"\x80" + size.to_bytes(11, "big")
    block[136:148] = b"00000000000\0"
    block[156:157] = kind
    block[157 : 157 + len(link[:100])] = link[:100]
    block[257:265] = b"ustar  \0"
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def encoded(text):
    return text.encode() if isinstance(text, str) else text


def padded(content):
    return content + bytes(-len(content) % 512)


def long_name(name, kind=b"L"):
    content = encoded(name) + b"\0"
    return header("././@LongLink", len(content), kind) + padded(content)


def entry(name, content=b"", kind=b"0", link=b""):
    name, link = encoded(name), encoded(link)
    long = (long_name(name) if len(name) > 100 else b"") + (long_name(link, b"K") if len(link) > 100 else b"")
    return long + header(name, len(content), kind, link) + padded(content)


def config(layers, **more):
    known = {"architecture": "amd64", "os": "linux", "config": {"User": "app"}}
    known["rootfs"] = {"type": "layers", "diff_ids": ["sha256:" + sha256(layer) for layer in layers]}
    return json.dumps({**known, **more}).encode()


def docker_archive(path, layers, document=None, names=None):
    """What `docker save` writes. Layers are uncompressed."""
    document = document if document is not None else config(layers)
    names = names or [f"{sha256(layer)}/layer.tar" for layer in layers]
    listing = [{"Config": sha256(document) + ".json", "RepoTags": ["x/y:1"], "Layers": names}]
    with open(path, "wb") as out:
        for name, layer in dict(zip(names, layers)).items():
            out.write(entry(name, layer))
        out.write(entry(sha256(document) + ".json", document))
        out.write(entry("manifest.json", json.dumps(listing).encode()) + END)
    return path


def oci_layout(path, blobs, kind="application/vnd.oci.image.layer.v1.tar", document=None, annotations=None, index=None):
    """An OCI layout in a directory. The blobs are the layers."""
    os.makedirs(path + "/blobs/sha256", exist_ok=True)

    def put(content):
        with open(f"{path}/blobs/sha256/{sha256(content)}", "wb") as blob:
            blob.write(content)
        return {"digest": "sha256:" + sha256(content), "size": len(content)}

    document = document if document is not None else config([], rootfs={"type": "layers", "diff_ids": []})
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", **put(document)},
        "layers": [{"mediaType": kind, **put(blob)} for blob in blobs],
        "annotations": annotations or {},
    }
    listed = {"mediaType": manifest["mediaType"], **put(json.dumps(manifest).encode())}
    with open(path + "/index.json", "w") as file:
        json.dump(index or {"schemaVersion": 2, "manifests": [listed]}, file)
    with open(path + "/oci-layout", "w") as file:
        file.write('{"imageLayoutVersion":"1.0.0"}')
    return path

"""Puts the first inputs into corpus/, out of what the project has: the image of the incident, the keys and modules
that the tests read, and the signature files. Runs in a moment; a file that is there stays."""

import base64
import gzip
import hashlib
import io
import json
import tarfile
import zlib
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
TIME = 1_763_370_764
NAMES = [
    "alpine", "user/app:v1", "localhost:5000/a/b:v1@sha256:" + "0" * 64, "[::1]:80/a", "index.docker.io/library/a",
    "oci:dir:name:tag", "docker://host.example/team/app", "docker-daemon:app:1", "-", "npm:@scope/name@1.2.3",
    "etc/passwd", "0123456789abcdef",
]
TOKEN = b"GITHUB_TOKEN=ghp_" + b"A1b2C3d4E5" * 3 + b"2RwFPl\n"  # its shape; the checksum is wrong


def main():
    image = incident()
    layers = [data for name, data in image.items() if looks_like_tar(data)]
    documents = [data for name, data in image.items() if data.lstrip().startswith((b"{", b"["))]
    small = tiny_layer()
    put("tar_walk", [bytes([0, 0, 0, 0]) + layer for layer in [small, *layers] if len(layer) <= 16_000])
    put("tar_walk", [bytes([3, 40, 9, 0]) + layer for layer in [small, *layers] if len(layer) <= 16_000])
    put("manifest", documents + [b"\0".join(documents), *chains(documents)])
    put("compression", [b"\x07" + data for data in streams(small)])
    keys = [path.read_bytes() for path in sorted((ROOT / "crates/scan/src/confirm/keys/fixtures").glob("*.pem"))]
    put("pem", keys)
    containers = sorted((ROOT / "crates/scan/src/confirm/keys/fixtures/containers").iterdir())
    put("containers", [unhexed(path) for path in containers])
    put("der", [der for der in map(body, keys) if der])
    put("signature_file", [path.read_bytes() for path in sorted((ROOT / "signatures").rglob("*.toml"))])
    modules = sorted((ROOT / "crates/scan/src/confirm/cipher/fixtures").glob("*.*o"))
    put("elf", [b"\xff\xff" + path.read_bytes() for path in modules])
    put("provenance", [provenance()])
    fixtures = sorted((ROOT / "testdata/archives").iterdir())
    put("archive", [b"\x10" + path.read_bytes() for path in fixtures if path.suffix != ".py"])
    put("archive", [b"\x10" + data for data in repositories((ROOT / "testdata/archives/deflate.zip").read_bytes())])
    put("docker_archive", [b"\0" + archive for archive in archives(small)])
    put("whole_path", [bytes([flags]) + archive for archive in archives(small) for flags in (0, 2)])
    put("kept_report", [(ROOT / "testdata/kept/report.postcard").read_bytes()])
    databases = sorted((ROOT / "crates/packages/tests/data").iterdir())
    put("packages", [b"\x02" + path.read_bytes() for path in databases])
    put("bbolt", bolt_databases())
    put("reference", [text.encode() for text in NAMES])
    put("admission_review", admission_reviews())
    put("harbor_scanner", [harbor_request(), (ROOT / "testdata/harbor/incident.json").read_bytes()[:8_000]])
    put("events", events())
    put("attestations", attestations())
    put("prompts", prompts())
    put("prompt_stream", prompt_streams())


def attestations():
    """What both versions of cosign wrote, and a token of a time stamp authority."""
    data = ROOT / "crates/attest/tests/data"
    inputs = []
    for name in ("written.json", "timestamped.json"):
        written = json.loads((data / name).read_text())
        for blob in {blob for dump in written.values() for blob in dump["blobs"].values() if len(blob) < 4_000}:
            value = json.loads(blob)
            envelope = value.get("dsseEnvelope", value)
            kind = b"\x02" if "dsseEnvelope" in value else b"\x01"
            inputs.append(kind + blob.encode())
            if "payload" in envelope:
                inputs.append(b"\0" + base64.b64decode(envelope["payload"]))
            stamps = value.get("verificationMaterial", {}).get("timestampVerificationData", {})
            for stamp in stamps.get("rfc3161Timestamps", []):
                inputs.append(b"\x03" + base64.b64decode(stamp["signedTimestamp"]))
    keys = json.loads((data / "keys.json").read_text())
    public = [pem for name, pem in keys.items() if name.endswith(".pub")]
    inputs += [b"\x04" + body(pem.encode()) for pem in public]
    return inputs


def bolt_databases():
    """The small databases of a recorded store of Docker."""
    with tarfile.open(ROOT / "testdata/disks/docker-20.10.24-overlay2.tar.xz") as archive:
        members = [member for member in archive if member.name.endswith(".db") and member.size <= 65_536]
        return [archive.extractfile(member).read() for member in members]


def provenance():
    """A recorded statement, the manifest's configuration and the Dockerfile."""
    built = ROOT / "testdata/recordings/buildkit"
    statement = json.loads((built / "linemap-provenance-v0.2-max.json").read_text())
    body = statement["manifests"][1]["statements"][0]["body"]
    config = statement["manifests"][0]["config"]
    lines = json.loads((built / "line-map-linemap.json").read_text())["dockerfile_lines"]
    text = "\n".join(lines[str(number + 1)] for number in range(len(lines)))
    return b"\0".join([json.dumps(body).encode(), json.dumps(config).encode(), text.encode()])


def harbor_request():
    """A recorded request of a Harbor."""
    recorded = json.loads((ROOT / "testdata/recordings/harbor/scanner/one-scan-seen-by-adapter.json").read_bytes())
    return next(call["body"] for call in recorded if call["method"] == "POST").encode()


def admission_reviews():
    """Recorded requests without what nobody reads, so that they are short, and questions in the other forms."""
    yield (ROOT / "testdata/recordings/kubernetes/gatekeeper/provider-request.raw.json").read_bytes()
    yield b'{"images":["app:1",{"image":"app:2","digest":"sha256:' + b"0" * 64 + b'"}],"namespace":"shop"}'
    for path in sorted((ROOT / "testdata/recordings/kubernetes/requests").glob("*-*.json")):
        recorded = json.loads(path.read_bytes())
        if isinstance(recorded, dict) and "body" in recorded:
            request = recorded["body"]["request"]
            for side in ("object", "oldObject"):
                (request.get(side) or {}).pop("metadata", None)
                (request.get(side) or {}).pop("status", None)
            yield json.dumps(recorded["body"], separators=(",", ":")).encode()


def prompts():
    """What clients sent to LiteLLM, what it sent on to a guardrail, and the ends of streams."""
    recorded = ROOT / "testdata/recordings/gateways/litellm"
    inputs = []
    for case in json.loads((recorded / "guardrail_requests.json").read_bytes())["cases"]:
        bodies = [case["client_request"]["body"], *(call["body"] for call in case["guardrail_calls"])]
        inputs += [json.dumps(body).encode() for body in bodies]
    for case in json.loads((recorded / "guardrail_streams.json").read_bytes())["cases"]:
        inputs.append(case["stream_end"].partition("\n\n")[2].encode())
    return [data for data in inputs if data and len(data) <= 8_000]


def prompt_streams():
    """Texts of answers, for each API, with and without a secret."""
    texts = ["The answer is forty two.", 'key = {0x12, 0x34, "a\\nb"}', "-----BEGIN X-----\n" + "QUJD" * 12 + "\n"]
    return [bytes([first, cut]) + text.encode() for text in texts for first in range(5) for cut in (3, 40)
            for first in (first, first | 0x88)]


def events():
    """What a real Harbor sent, and a notification of Docker's registry."""
    recorded = json.loads((ROOT / "testdata/recordings/harbor/webhooks/events.json").read_bytes())
    for deliveries in recorded.values():
        yield from (delivery["body"].encode() for delivery in deliveries if delivery.get("body"))
    target = {
        "mediaType": "application/vnd.oci.image.index.v1+json", "digest": "sha256:" + "0" * 64,
        "repository": "library/app", "tag": "1",
    }
    event = {"action": "push", "target": target, "request": {"host": "registry.example:5000"}}
    yield json.dumps({"events": [event]}, separators=(",", ":")).encode()


def put(target, inputs):
    folder = HERE / "corpus" / target
    folder.mkdir(parents=True, exist_ok=True)
    for data in inputs:
        path = folder / hashlib.sha1(data).hexdigest()
        if not path.exists():
            path.write_bytes(data)


def incident():
    with tarfile.open(ROOT / "testdata/incident.tar") as archive:
        return {member.name: archive.extractfile(member).read() for member in archive if member.isfile()}


def looks_like_tar(data):
    return data[257:262] == b"ustar"


def unhexed(path):
    """The bytes of a fixture, which stand in a `.hex` file where they are no text."""
    data = path.read_bytes()
    return bytes.fromhex(data.decode()) if path.suffix == ".hex" else data


def body(pem):
    """The bytes between the labels of a PEM file without headers."""
    import base64
    lines = [line for line in pem.decode().splitlines() if line and not line.startswith("-----")]
    return None if any(":" in line for line in lines) else base64.b64decode("".join(lines))


def tar(members, format=tarfile.PAX_FORMAT):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format) as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.mtime = TIME
            if isinstance(data, str):
                info.type, info.linkname = tarfile.LNKTYPE, data
                data = None
            else:
                info.size = len(data)
            archive.addfile(info, io.BytesIO(data) if data is not None else None)
    end = out.getvalue().rstrip(b"\0")
    return end + bytes(-len(end) % 512) + bytes(1024)


def tiny_layer():
    long = "/".join(["app", "n" * 90, "m" * 90])
    return tar([("app/.env", TOKEN), ("app/.wh.old", b""), ("app/copy", "app/.env"), (long, b"x" * 700)])


def streams(data):
    # Two members, and a Zstandard frame with one raw block (RFC 8878, section 3.1.1).
    yield gzip.compress(data, mtime=0) + gzip.compress(b"more", mtime=0)
    yield bytes.fromhex("28b52ffd0458") + ((len(TOKEN) << 3) | 1).to_bytes(3, "little") + TOKEN
    yield bytes.fromhex("502a4d1802000000") + b"xy" + bytes.fromhex("28b52ffd2000010000")
    yield data[:600]


def chains(documents):
    """An index, a manifest and a configuration that name each other as the target counts documents."""
    def name(digit):
        return f"sha256:{digit:x}" + "0" * 63
    def item(digit, kind):
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": name(digit), "size": 1}
    index = {"schemaVersion": 2, "manifests": [item(1, "manifest.v1+json"), item(3, "index.v1+json")]}
    index["manifests"][0]["platform"] = {"os": "linux", "architecture": "arm64", "variant": "v8"}
    manifest = {"schemaVersion": 2, "config": item(2, "config.v1+json"), "layers": [item(4, "layer.v1.tar+gzip")]}
    config = {"os": "linux", "architecture": "arm64", "config": {"Env": ["A=b"], "ExposedPorts": {"9229/tcp": {}}},
              "rootfs": {"type": "layers", "diff_ids": [name(5)]}, "history": [{"created_by": "COPY a b"}]}
    inner = {"schemaVersion": 2, "manifests": []}
    yield b"\0".join(json.dumps(document).encode() for document in (index, manifest, config, inner))
    yield b"\0".join(json.dumps(document).encode() for document in (manifest, inner, config))


def archives(layer):
    config = json.dumps({
        "os": "linux", "architecture": "amd64", "config": {"Env": ["A=b"], "ExposedPorts": {"9229/tcp": {}}},
        "rootfs": {"type": "layers", "diff_ids": [digest(layer)]}, "history": [{"created_by": "COPY a b"}],
    }).encode()
    listing = json.dumps([{"Config": "c.json", "RepoTags": ["a:1"], "Layers": ["l/layer.tar"]}]).encode()
    yield tar([("c.json", config), ("l/layer.tar", layer), ("manifest.json", listing)])
    yield tar([("manifest.json", listing), ("c.json", config), ("l/layer.tar", gzip.compress(layer, mtime=0))])
    yield tar([("manifest.json", listing), ("c.json", config), ("0.tar", layer), ("l/layer.tar", "0.tar")])
    blobs = []
    def blob(data, kind):
        blobs.append((f"blobs/sha256/{digest(data)[7:]}", data))
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": digest(data), "size": len(data)}
    parts = [gzip.compress(layer, mtime=0), layer]
    manifest = {"schemaVersion": 2, "config": blob(config, "config.v1+json"), "layers": []}
    manifest["layers"] = [blob(part, "layer.v1.tar") for part in parts]
    index = {"schemaVersion": 2, "manifests": [blob(json.dumps(manifest).encode(), "manifest.v1+json")]}
    layout = [("oci-layout", b'{"imageLayoutVersion":"1.0.0"}'), ("index.json", json.dumps(index).encode())]
    yield tar(layout + blobs)
    yield tar(blobs + layout)
    yield layer
    yield gzip.compress(tar(layout + blobs), mtime=0)


def repositories(archive):
    """An object and a pack of Git, and a zip archive behind a script."""
    text = b"line\n" * 100
    yield zlib.compress(b"blob %d\0" % len(text) + text)
    first = bytes([0xb0 | len(text) & 15, len(text) >> 4]) + zlib.compress(text)
    # The first byte is another, and the rest is copied.
    difference = b"\xf4\x03\xf4\x03\x01X\xb1\x01\xf3\x01"
    second = bytes([0x60 | len(difference), len(first)]) + zlib.compress(difference)
    yield b"PACK\0\0\0\x02\0\0\0\x02" + first + second + bytes(20)
    yield b"#!/bin/sh\n" + b"# line\n" * 300 + archive


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


if __name__ == "__main__":
    main()

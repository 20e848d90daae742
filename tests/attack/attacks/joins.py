"""Small images whose cost comes after their layers are read: many images with the same layers, and names, gaps, findings
and documents that are put together."""

import base64
import gzip
import json

from harness import attack
from images import END, config, entry, oci_layout, sha256, token, tokens

MIB = 1 << 20


def compressed(setting, name, content):
    return setting.write(name, gzip.compress(content, 9, mtime=0))


def images_with_the_same_layers(setting, name, count, layers, document=config):
    """An archive of `count` images, each of which has a configuration of its own."""
    files = {sha256(layer) + "/layer.tar": layer for layer in layers}
    paths = [sha256(layer) + "/layer.tar" for layer in layers]
    listing = []
    for number in range(count):
        content = document(layers, author=str(number))
        files[sha256(content) + ".json"] = content
        listing.append({"Config": sha256(content) + ".json", "RepoTags": [f"x/y:{number}"], "Layers": paths})
    files["manifest.json"] = json.dumps(listing).encode()
    return compressed(setting, name, b"".join(entry(path, content) for path, content in files.items()) + END)


def layers_of_gzip(setting, name, layers):
    blobs = [gzip.compress(layer, 9, mtime=0) for layer in layers]
    kind = "application/vnd.oci.image.layer.v1.tar+gzip"
    return oci_layout(setting.at(name), blobs, kind, document=config(layers))


def in_folder(files):
    return b"".join(entry(path, content) for path, content in files) + END


@attack(1, 3)
def findings_that_many_images_share(setting):
    layer = in_folder((f"d/{number}.env", tokens(100, first=100 * number)) for number in range(60))
    for count in [100, 300]:
        path = images_with_the_same_layers(setting, f"{count}.tar.gz", count, [layer])
        yield setting.scan(path, "-o", "/dev/null")
        yield setting.run("layers", path, "-q", "-j", setting.threads, "-o", "/dev/null")
        yield setting.run("sbom", path, "-q", "-j", setting.threads, "-o", "/dev/null")
    few = in_folder([("a.env", tokens(500))])
    yield setting.scan(images_with_the_same_layers(setting, "999.tar.gz", 999, [few]), "-o", "/dev/null")


@attack(1, 3)
def findings_of_configurations_of_many_images(setting):
    def document(layers, author):
        env = [f"A{number}={token(number)}" for number in range(2_000)]
        return config(layers, author=author, config={"Env": env})

    layer = in_folder([("a", b"x")])
    yield setting.scan(images_with_the_same_layers(setting, "image.tar.gz", 150, [layer], document), "-o", "/dev/null")


@attack(1, 3)
def deep_paths_of_many_images(setting):
    deep = "/".join(f"d{number}" for number in range(300))
    base = b"".join(entry(f"{deep}/{number}", b"k=" + token(1).encode()) for number in range(1_500)) + END
    tops = [in_folder([(f"x{number}", b"1"), (f"y/.wh.{number}", b"")]) for number in range(100)]
    path = images_with_the_same_layers(setting, "image.tar.gz", 400, [base, *tops])
    yield setting.scan(path, "-o", "/dev/null")
    outcome = setting.scan(path, "--timeout", "1s", "-o", "/dev/null")
    if outcome.cpu > 3:
        yield f"a limit of 1 s took {outcome.cpu:.1f} s of work"
    yield outcome


@attack(1, 3)
def gaps_that_quote_secrets(setting):
    damaged = in_folder((f"d/{number}.7z", b"7z\xbc\xaf\x27\x1c\0\x04" + bytes(64)) for number in range(2_000))
    for secrets in [[], [f"GITHUB_TOKEN={token(7)}"] * 1_000, [f"A{one}={token(one)}" for one in range(1_000)]]:
        document = config([damaged] * 1_000, config={"User": "app", "Env": secrets})
        listing = [{"Config": "c.json", "RepoTags": ["x/y:1"], "Layers": ["l.tar"] * 1_000}]
        files = [("l.tar", damaged), ("c.json", document), ("manifest.json", json.dumps(listing).encode())]
        yield setting.scan(compressed(setting, f"{len(set(secrets))}.tar.gz", in_folder(files)), "-o", "/dev/null")


def provenance(dockerfile, variables, history):
    """The files of a layout with an image of BuildKit and its provenance."""
    layer = in_folder([("etc/x", b"hello")])
    files = {}

    def put(content):
        files["blobs/sha256/" + sha256(content)] = content
        return {"digest": "sha256:" + sha256(content), "size": len(content)}

    kind, of_config = (f"application/vnd.oci.image.{name}.v1+json" for name in ("manifest", "config"))
    tar = {"mediaType": "application/vnd.oci.image.layer.v1.tar", **put(layer)}
    document = config([layer], config={"User": "app", "Env": variables}, history=history)
    manifest = json.dumps({"schemaVersion": 2, "mediaType": kind, "config": {"mediaType": of_config, **put(document)},
                           "layers": [tar]}).encode()
    image = put(manifest)
    source = {"infos": [{"filename": "Dockerfile", "data": base64.b64encode(dockerfile.encode()).decode()}]}
    key = "https://mobyproject.org/buildkit@v1"
    statement = json.dumps({
        "_type": "https://in-toto.io/Statement/v0.1", "predicateType": "https://slsa.dev/provenance/v0.2",
        "subject": [{"name": "x", "digest": {"sha256": sha256(manifest)}}],
        "predicate": {"builder": {"id": ""}, "buildType": key, "metadata": {f"{key}#metadata": {"source": source}}},
    }).encode()
    attested = json.dumps({
        "schemaVersion": 2, "mediaType": kind, "config": {"mediaType": of_config, **put(b'{"rootfs":{"diff_ids":[]}}')},
        "layers": [{"mediaType": "application/vnd.in-toto+json", **put(statement),
                    "annotations": {"in-toto.io/predicate-type": "https://slsa.dev/provenance/v0.2"}}],
    }).encode()
    refers = {"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": image["digest"]}
    files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": [
        {"mediaType": kind, **image, "platform": {"os": "linux", "architecture": "amd64"}},
        {"mediaType": kind, **put(attested), "platform": {"os": "unknown", "architecture": "unknown"},
         "annotations": refers}]}).encode()
    files["oci-layout"] = b'{"imageLayoutVersion":"1.0.0"}'
    return in_folder(files.items())


@attack(1)
def changes_of_a_dockerfile_with_many_secrets(setting):
    used = "echo $GITHUB_TOKEN " + "ab " * 3_000
    history = [{"created_by": f"ENV GITHUB_TOKEN={token(7)}", "empty_layer": True}]
    history += [{"created_by": f"RUN /bin/sh -c {used} # buildkit", "empty_layer": one > 0} for one in range(100)]
    dockerfile = f"FROM scratch\nENV GITHUB_TOKEN={token(7)}\n" + f"RUN {used}\n" * 100
    for variables in [[f"GITHUB_TOKEN={token(7)}"] * 1_000, [f"GITHUB_TOKEN={token(one)}" for one in range(1_000)]]:
        content = provenance(dockerfile, variables, history)
        yield setting.scan(compressed(setting, "image.tar.gz", content), "-o", "/dev/null")


def layout_with(member):
    """A layout in an archive whose manifest has `member`, a text of JSON, besides what it needs."""
    layer, files = in_folder([("a", b"x")]), {}

    def put(content):
        files["blobs/sha256/" + sha256(content)] = content
        return {"digest": "sha256:" + sha256(content), "size": len(content)}

    kind, of_config = (f"application/vnd.oci.image.{name}.v1+json" for name in ("manifest", "config"))
    manifest = {"schemaVersion": 2, "mediaType": kind, "config": {"mediaType": of_config, **put(config([layer]))},
                "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", **put(layer)}]}
    manifest = put((json.dumps(manifest)[:-1] + "," + member + "}").encode())
    files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": [{"mediaType": kind, **manifest}]}).encode()
    files["oci-layout"] = b'{"imageLayoutVersion":"1.0.0"}'
    return in_folder(files.items())


@attack(0, 3)
def long_names_above_many_members(setting):
    for content in ["{" + ",".join(['"a":1'] * 480_000) + "}", "[" + ",".join(["1"] * 480_000) + "]"]:
        member = '"zz":{"' + "k" * 4_000_000 + '":' + content + "}"
        yield setting.scan(compressed(setting, "layout.tar.gz", layout_with(member)), "-o", "/dev/null")


@attack(1, 3)
def constants_that_a_program_may_pass_to_a_cipher(setting):
    constant = b'k=bytes("9f86d081884c7d659a2feaa0c55ad015"'
    units = [constant + b"\n", b"\n" + constant + b"HMAC(" * 60,
             b"byte k[] = {" + b",".join(b"%d" % (number * 7) for number in range(33)) + b"};\n"]
    for number, unit in enumerate(units):
        body = unit * (6 * MIB // len(unit))
        layers = [in_folder([(f"{layer}.py", body)]) for layer in range(10)]
        yield setting.scan(layers_of_gzip(setting, f"{number}", layers), "-o", "/dev/null")


@attack(0, 1, 3)
def small_files_that_meet_many_rules(setting):
    # Names of many rules, each before something that may be a secret.
    words = [b"password", b"secret", b"token", b"api_key", b"access_key", b"private_key", b"client_secret", b"passwd"]
    services = [b"github", b"gitlab", b"slack", b"stripe", b"azure", b"heroku", b"twilio", b"datadog", b"okta", b"npm"]
    lines = b"".join(b'%s_%s="%s"\n' % (service, word, token(at).encode()[4:])
                     for at, (service, word) in enumerate((s, w) for s in services for w in words))
    layers = [in_folder((f"d/{number}_{layer}.env", lines) for number in range(600)) for layer in range(6)]
    yield setting.scan(layers_of_gzip(setting, "image", layers), "-o", "/dev/null")

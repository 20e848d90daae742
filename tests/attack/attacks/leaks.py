"""A token in every place of an image that a name or a document has: it must not get out, nor must a name steer what shows
it."""

import io
import json
import os
import zipfile

from harness import attack
from images import END, config, docker_archive, entry, header, long_name, oci_layout, padded, token
from server import Image, Server

SECRET = token(77)
FORMS = ["text", "json", "sarif", "html", "markdown", "junit", "gitlab", "cyclonedx"]
STEERING = ["\x1b", "\x9b", "\x07", "\u202e", "\u2066"]


def pax(name, value, path):
    record = b" %s=%s\n" % (name.encode(), value.encode())
    length = len(record) + 3
    content = b"%d" % length + record
    return header("PaxHeaders/x", len(content), b"x") + padded(content) + entry(path, b"x")


def layers():
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(f"key-{SECRET}.txt", f"T={SECRET}")
        archive.writestr("nested.zip", b"PK\x03\x04" + SECRET.encode())
    found = f"T={SECRET}\n".encode()
    package = json.dumps({"name": SECRET, "version": SECRET, "license": SECRET}).encode()
    status = f"Package: {SECRET}\nVersion: {SECRET}\nStatus: install ok installed\n\n".encode()
    python = f"Metadata-Version: 2.1\nName: {SECRET}\nVersion: {SECRET}\n\n".encode()
    plain = {
        "path": entry(f"app/token-{SECRET}.txt", found),
        "folder": entry(f"{SECRET}/.env", found),
        "member": entry("a.zip", packed.getvalue()),
        "unreadable": entry(f"{SECRET}.7z", b"7z\xbc\xaf'\x1c\0\4" + bytes(56)),
        "symlink": entry(f"l-{SECRET}", b"", b"2", f"/x/{SECRET}") + entry("app/.env", found),
        "hardlink": entry("app/.env", found) + entry(f"h-{SECRET}", b"", b"1", "app/.env"),
        "whiteout": entry(f"app/.wh.{SECRET}", b"") + entry(f"{SECRET}/.wh..wh..opq", b""),
        "npm": entry("app/node_modules/x/package.json", package) + entry("app/node_modules/x/i.js", found),
        "dpkg": entry("var/lib/dpkg/status", status) + entry(f"var/lib/dpkg/info/{SECRET}.list", b"/app/.env\n"),
        "python": entry(f"usr/lib/python3/site-packages/{SECRET}.dist-info/METADATA", python),
        "pax": pax("comment", SECRET, "app/x") + pax("SCHILY.xattr.user.k", SECRET, "app/y"),
        "uname": entry("x", found),
        "long": long_name("d/" * 100 + SECRET) + header("x", 0),
        "sparse": entry(f"GNUSparseFile.0/{SECRET}", found),
    }
    return {name: layer + END for name, layer in plain.items()}


def documents(layer):
    """Configurations with the token in fields of the right type and of a wrong one."""
    right = {
        "author": SECRET, "created": SECRET, "variant": SECRET, "os.version": SECRET, "x": {SECRET: [SECRET]},
        "history": [{"created_by": f"RUN T={SECRET}", "author": SECRET, "comment": SECRET, "created": SECRET}],
        "config": {
            "User": SECRET, "Env": [f"T={SECRET}"], "Cmd": [SECRET], "Entrypoint": [SECRET], "WorkingDir": "/" + SECRET,
            "Labels": {SECRET: SECRET}, "Volumes": {"/" + SECRET: {}}, "ExposedPorts": {SECRET: {}}, "OnBuild": [SECRET],
            "StopSignal": SECRET, "Shell": [SECRET], "Healthcheck": {"Test": ["CMD", SECRET]},
        },
    }
    for name, value in right.items():
        yield f"{name} as it should be", config([layer], **{name: value})
        for wrong in (SECRET, [SECRET], {SECRET: SECRET}, [[SECRET]]):
            yield f"{name} of a wrong type", config([layer], **{name: wrong})
    for name in right["config"]:
        for wrong in (SECRET, [SECRET], {SECRET: SECRET}, [[SECRET]], {"a": [SECRET]}):
            yield f"config.{name} of a wrong type", config([layer], config={name: wrong})
    for wrong in ({"type": SECRET, "diff_ids": [SECRET]}, SECRET, {"type": "layers", "diff_ids": SECRET}):
        yield "rootfs", config([layer], rootfs=wrong)
    for name in ("architecture", "os"):
        yield name, config([layer], **{name: SECRET})


def leaks(setting, what, target, forms=FORMS):
    """Runs all that reads an image, and looks for the token in what it says and keeps."""
    for form in forms:
        # Findings without one are no leak, but every place of these is a finding or nobody's business.
        outcome = setting.scan(target, "--format", form, most=60)
        yield from inspected(setting, what, form, outcome)
    yield from inspected(setting, what, "layers", setting.run("layers", target))
    store = setting.at("leak.db")
    yield from inspected(setting, what, "store", setting.scan(target, "--store", store))
    yield from inspected(setting, what, "trace", setting.run("trace", "app/.env", "--store", store))
    for file in (store, store + "-wal"):
        if os.path.exists(file):
            with open(file, "rb") as content:
                if SECRET.encode() in content.read():
                    yield f"{what}: the token is in {os.path.basename(file)}"
            os.unlink(file)
    if os.path.exists(store + "-shm"):
        os.unlink(store + "-shm")


def inspected(setting, what, form, outcome):
    for stream, text in (("standard output", outcome.out), ("standard error", outcome.err)):
        if SECRET.encode() in text:
            at = text.index(SECRET.encode())
            yield f"{what}: the token is on {stream} ({form}): {text[max(0, at - 60):at + 10]!r}"
        if any(mark.encode() in text for mark in STEERING):
            yield f"{what}: {stream} steers a terminal ({form})"
    if b"panicked" in outcome.err:
        yield f"{what}: it panicked ({form})"


@attack()
def a_token_in_every_name(setting):
    for name, layer in layers().items():
        yield from leaks(setting, name, docker_archive(setting.at(name + ".tar"), [layer]))


@attack()
def a_token_in_every_field(setting):
    layer = entry("app/.env", f"T={SECRET}\n".encode()) + END
    for number, (what, document) in enumerate(documents(layer)):
        path = docker_archive(setting.at("image.tar"), [layer], document)
        yield from leaks(setting, what, path, FORMS if number % 8 == 0 else ["text", "json"])


@attack()
def a_token_in_every_document(setting):
    layer = entry("app/x", b"x") + END
    listed = {"mediaType": SECRET, "digest": SECRET, "size": 1, "platform": {"os": SECRET, "architecture": SECRET}}
    for number, index in enumerate([
        {"schemaVersion": 2, "manifests": [listed]},
        {"schemaVersion": SECRET, "manifests": SECRET},
        {"schemaVersion": 2, "manifests": [{**listed, "annotations": SECRET}]},
        {"schemaVersion": 2, "manifests": [], "annotations": {SECRET: SECRET}},
    ]):
        path = oci_layout(setting.at(f"index{number}"), [layer], index=index)
        yield from leaks(setting, f"index {number}", path, ["text", "json"])
    for number, more in enumerate([{"annotations": {SECRET: SECRET, "a": SECRET}}, {"annotations": SECRET}]):
        path = oci_layout(setting.at(f"manifest{number}"), [layer], **more)
        yield from leaks(setting, f"manifest {number}", path)
    path = oci_layout(setting.at("kind"), [layer], kind=SECRET)
    yield from leaks(setting, "media type", path)
    path = docker_archive(setting.at("names.tar"), [layer], names=[f"{SECRET}/layer.tar"])
    yield from leaks(setting, "name of a layer", path)


@attack()
def names_that_steer(setting):
    name = "app/\x1b[31mRED\x1b]0;title\x07\r\x08\x9b31m\u202e\u2066.env"
    found = f"T={SECRET}\n".encode()
    layer = entry(name, found) + entry("l", b"", b"2", name) + entry("app/.wh." + name[4:], b"") + END
    document = config([layer], architecture="a\x1b]0;x\x07\u202e", author=name, created=name,
                      config={"User": name, "Env": [f"A={name}"], "Labels": {name: name}},
                      history=[{"created_by": name, "comment": name}])
    path = docker_archive(setting.at("image.tar"), [layer], document)
    yield from leaks(setting, "names", path)
    image = Image([layer], document)
    with Server(image.handle) as server:
        store = setting.at("store.db")
        for form in ("text", "json"):
            arguments = ["sweep", "registry", server.address, "--store", store, "-q", "--plain-http", "--anonymous"]
            outcome = setting.run(*arguments, "--format", form)
            yield from inspected(setting, "sweep", form, outcome)
            outcome = setting.run("trace", "github.personal-access-token", "--store", store, "--format", form)
            yield from inspected(setting, "trace", form, outcome)
    broken = config([layer], config={"Env": name}).replace(b"\\u", b"\\u")
    path = docker_archive(setting.at("broken.tar"), [layer], broken)
    yield from inspected(setting, "error", "text", setting.scan(path))


@attack()
def a_password_of_a_store(setting):
    password = "hunter2secret"
    for name in ["postgres://127.0.0.1:1/db?user=u&password={}", "postgresql://u:{}@127.0.0.1:1/db?sslmode=bogus",
                 "postgres://u:{}@", "postgres:/u:{}@127.0.0.1/x", "postgres:/u:a:{}@h", "POSTGRES://u:{}@127.0.0.1:1/x",
                 "postgres://u:{}%ZZ@127.0.0.1:1/x", "host=127.0.0.1 port=1 user=u password={}"]:
        for arguments in (["trace", "x", "--store", name.format(password)], ["worker", "--store", name.format(password)]):
            outcome = setting.run(*arguments, most=40)
            if password.encode() in outcome.out + outcome.err:
                yield f"the password of {name} gets out: {outcome.err[-200:]!r}"

"""Images that are made to be kept: names, links, records, gaps, findings, documents and decoders."""

import gzip
import json
import os
import struct
import subprocess

from harness import attack
from images import END, config, docker_archive, entry, header, long_name, oci_layout, padded, sha256, token, tokens, zipped

PLAIN = entry("app/x", b"hello\n") + END


def compressed(setting, name, entries):
    path = setting.at(name)
    with gzip.open(path, "wb", compresslevel=1) as out:
        for one in entries:
            out.write(one)
        out.write(END)
    return path


@attack(1, seconds=60)
def findings_of_many_files(setting):
    layers = [
        b"".join(entry(f"d{layer}/f{file}.env", tokens(1000, file * 1000 + layer * 100_000)) for file in range(60)) + END
        for layer in range(4)
    ]
    path = docker_archive(setting.at("image.tar"), layers)
    for form in ("text", "json", "sarif", "html"):
        yield setting.scan(path, "--format", form, "-o", "/dev/null")


@attack(1, seconds=20)
def one_layer_that_is_named_a_thousand_times(setting):
    layer = entry("app/.env", tokens(1000)) + END
    path = docker_archive(setting.at("image.tar"), [layer] * 1000, names=["a/layer.tar"] * 1000)
    yield setting.scan(path, "--format", "json", "-o", "/dev/null")


@attack(0, 2, 3)
def a_long_key_over_many_strings(setting):
    document = config([PLAIN], **{"K" * 1_000_000: ["a"] * 2500})
    yield setting.scan(docker_archive(setting.at("image.tar"), [PLAIN], document))


@attack(0, 2, 3)
def half_a_million_labels(setting):
    document = config([PLAIN], config={"User": "app", "Labels": {f"{number:06x}": "b" for number in range(400_000)}})
    yield setting.scan(docker_archive(setting.at("image.tar"), [PLAIN], document))


@attack(0, 2, 3)
def documents_of_an_index(setting):
    path = setting.at("layout")
    oci_layout(path, [PLAIN])
    with open(path + "/index.json") as file:
        first = json.load(file)["manifests"][0]
    with open(f"{path}/blobs/sha256/{first['digest'][7:]}", "rb") as file:
        manifest = file.read()
    listed = []
    for number in range(40):
        content = manifest + b" " * ((8 << 20) - len(manifest) - number)
        with open(f"{path}/blobs/sha256/{sha256(content)}", "wb") as file:
            file.write(content)
        platform = {"os": "linux", "architecture": f"a{number}"}
        listed.append({**first, "digest": "sha256:" + sha256(content), "size": len(content), "platform": platform})
    with open(path + "/index.json", "w") as file:
        json.dump({"schemaVersion": 2, "manifests": listed}, file)
    yield setting.scan(path, "--platform", "all", "-o", "/dev/null")


@attack(0, 3, seconds=30)
def long_names_of_hard_links(setting):
    entries = (long_name(b"%08d/" % number + b"a" * 4080) + header("x", 0, b"1", "app/f") for number in range(60_000))
    yield setting.scan("rootfs:" + compressed(setting, "l.tar.gz", entries))


@attack(0, 3, seconds=30)
def long_names_of_whiteouts(setting):
    names = (b"%08d/" % number + b"a" * 2000 + b"/.wh." + b"b" * 2000 for number in range(60_000))
    yield setting.scan("rootfs:" + compressed(setting, "l.tar.gz", (long_name(name) + header("x") for name in names)))


@attack(3, seconds=30)
def many_gaps(setting):
    archive = b"7z\xbc\xaf'\x1c\0\4" + bytes(56)
    entries = (entry(f"some/directory/{number:08}.7z", archive) for number in range(200_000))
    path = compressed(setting, "l.tar.gz", entries)
    for form in ("text", "json"):
        yield setting.scan("rootfs:" + path, "--format", form, "-o", "/dev/null")


@attack(0, 3, seconds=30)
def package_records(setting):
    def record(number):
        return "".join(f"Package: p{number:02}{one:06x}\nVersion: 1\n\n" for one in range(200_000)).encode()

    entries = (entry(f"var/lib/dpkg/status.d/p{number}", record(number)) for number in range(12))
    yield setting.scan("rootfs:" + compressed(setting, "l.tar.gz", entries))


@attack(1, 3, seconds=30)
def long_names_of_members_with_findings(setting):
    archive = zipped([(f"{number:02}" + "n" * 4000, tokens(1000)) for number in range(20)])
    for depth in range(6):
        archive = zipped([(f"d{depth}" + "m" * 4000, archive)])
    layer = b"".join(entry(f"a/{number}.zip", archive) for number in range(5)) + END
    yield setting.scan(docker_archive(setting.at("image.tar"), [layer]), "-o", "/dev/null")


@attack(3, seconds=30)
def encrypted_members_with_long_names(setting):
    def member(name):
        return struct.pack("<IHHHHHIIIHH", 0x04034B50, 20, 1, 0, 0, 0, 0, 4, 4, len(name), 0) + name + b"AAAA"

    body = b"".join(member(b"%08d" % number + b"n" * 4080) for number in range(30_000))
    body += struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, 0, 0, 0, 0, 0)
    layer = header("a.zip", len(body)) + padded(body)
    yield setting.scan("rootfs:" + compressed(setting, "l.tar.gz", [layer]))


@attack(0, 1, 3, seconds=20)
def windows_of_zstandard_in_each_other_and_beside_each_other(setting):
    def wide(content):
        # The size is not known to it, so the stream says that it needs the whole window.
        arguments = ["zstd", "-q", "-1", "--long=27", "-c"]
        return subprocess.run(arguments, input=content, stdout=subprocess.PIPE, check=True).stdout

    # The window is only allocated as far as it is used.
    stream = wide(wide(os.urandom(1 << 20) * 140 + token().encode()))
    layers = [entry(f"a{number}.zst", stream + bytes([number])) + END for number in range(16)]
    yield setting.scan(docker_archive(setting.at("image.tar"), layers))


@attack(0, 1, 3, seconds=20)
def dictionaries_of_xz_in_each_other(setting):
    content = os.urandom(1 << 20) * 70 + token().encode() + b"\n"
    for _ in range(6):
        arguments = ["xz", "-c", "--format=xz", "--lzma2=dict=64MiB,mode=fast,mf=hc3,nice=4,depth=1"]
        content = subprocess.run(arguments, input=content, stdout=subprocess.PIPE, check=True).stdout
    layers = [entry(f"a{number}.xz", content) + END for number in range(16)]
    yield setting.scan(docker_archive(setting.at("image.tar"), layers))

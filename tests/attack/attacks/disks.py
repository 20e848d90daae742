"""Stores of engines on a disk that was prepared by somebody else."""

import json
import os

from harness import attack
from images import sha256, token

LEAK = b"T=" + token().encode() + b"\n"


def docker(setting, files=()):
    """A data root of Docker with the driver vfs and one layer without an image."""
    root = setting.at("docker")
    os.makedirs(root + "/vfs/dir/aaaa/app")
    os.makedirs(root + "/image/vfs/imagedb/content/sha256")
    os.makedirs(root + "/image/vfs/layerdb/sha256")
    os.makedirs(root + "/containers")
    for path, content in files:
        os.makedirs(os.path.dirname(f"{root}/{path}"), exist_ok=True)
        with open(f"{root}/{path}", "wb") as file:
            file.write(content)
    return root


def scan(setting, root, *arguments, **options):
    return setting.scan("docker-root:" + root, "--all", *arguments, **options)


@attack(1)
def a_layer_that_nothing_names(setting):
    yield scan(setting, docker(setting, [("vfs/dir/aaaa/app/.env", LEAK)]))


@attack(1, 3)
def links_out_of_the_disk(setting):
    outside = setting.write("outside/.env", LEAK.replace(token().encode(), token(5).encode()))
    root = docker(setting, [("vfs/dir/aaaa/app/.env", LEAK)])
    os.symlink(os.path.dirname(outside), root + "/vfs/dir/bbbb")
    os.symlink(outside, root + "/containers/link")
    os.symlink("/dev/zero", root + "/image/vfs/repositories.json")
    outcome = scan(setting, root, "--format", "json")
    yield outcome
    found = json.loads(outcome.out)
    places = [finding for report in found.get("reports", [found]) for finding in report["findings"]]
    values = {json.dumps(place["secret"]) for place in places if place.get("secret")}
    if any("outside" in json.dumps(place) for place in places) or len(values) > 1:
        yield "a link out of the disk was followed"


@attack(1, 3)
def pipes_devices_and_holes(setting):
    root = docker(setting, [("vfs/dir/aaaa/app/.env", LEAK)])
    for path in ("containers/pipe", "image/vfs/repositories.json", "vfs/dir/aaaa/pipe"):
        os.mkfifo(f"{root}/{path}")
    for path in ("vfs/dir/aaaa/disk.img", "containers/huge.log"):
        with open(f"{root}/{path}", "wb") as file:
            file.truncate(1 << 40)
    yield scan(setting, root)


@attack(1, 3)
def records_that_are_huge(setting):
    identifier = sha256(b"x")
    files = [
        ("vfs/dir/aaaa/app/.env", LEAK),
        (f"image/vfs/imagedb/content/sha256/{identifier}", b'{"a":"' + b"x" * (200 << 20) + b'"}'),
        (f"containers/{identifier}/config.v2.json", b"[" * (50 << 20)),
        ("buildkit/cache.db", bytes(4096) + b"\xed\xda\x0c\xed" * (4 << 20)),
    ]
    yield scan(setting, docker(setting, files))


@attack(1, 3, seconds=20)
def many_records_with_long_names(setting):
    files = [("vfs/dir/aaaa/app/.env", LEAK)]
    files += [(f"containers/{number:064x}/config.v2.json", b"{}" + b" " * 200) for number in range(8000)]
    yield scan(setting, docker(setting, files))

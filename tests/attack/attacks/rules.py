"""Images and prompts that make nearly every rule look at them: what a rule needs to decide is kept by each thread."""

import glob
import json
import os
import threading
import tomllib

from attacks.service import Service
from attacks.work import zstandard
from harness import attack
from images import END, docker_archive, entry, oci_layout

SIGNATURES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../../signatures")


def candidates():
    """A text in which each rule finds something, or nearly does."""
    lines = []
    for path in sorted(glob.glob(f"{SIGNATURES}/**/*.toml", recursive=True)):
        with open(path, "rb") as file:
            signatures = tomllib.load(file).get("signature", [])
        for signature in signatures:
            examples = signature.get("example", [])[:2] + signature.get("counterexample", [])[:1]
            lines += [one["input"] for one in examples if 0 < len(one.get("input", "")) < 600]
            lines += [f'{keyword}="Zk7Qm2Xr9Tb4Wn6VeJ3h"' for keyword in signature.get("keywords", [])[:2]]
    return "\n".join(lines)


@attack(0, 1, 3, seconds=120)
def files_that_meet_every_rule(setting):
    text = candidates().encode()
    files = (entry(f"app/f{number}.env", (text + b"\n" + b" " * (900_000 - len(text)))) for number in range(48))
    layer = b"".join(files) + END
    yield setting.scan(docker_archive(setting.at("image.tar"), [layer]), "-o", "/dev/null")


# The states of the expressions of a file are dropped for those of the next.
@attack(0, 1, 3)
def small_files_that_meet_many_rules(setting):
    lines = candidates().encode().split(b"\n")[::12]
    blobs = []
    for layer in range(6):
        files = (entry(f"{layer}/{number}", b"\n".join(lines) + b"\n%d %d" % (layer, number)) for number in range(600))
        blobs.append(zstandard(b"".join(files) + END))
    yield setting.scan(oci_layout(setting.at("layout"), blobs), "-o", "/dev/null")


@attack(seconds=120)
def prompts_that_meet_every_rule(setting):
    lines = candidates().split("\n")
    parts = [lines[first : first + 400] for first in range(0, len(lines), 400)]
    bodies = [
        json.dumps({"model": "m", "messages": [{"role": "user", "content": "\n".join(part)}]}).encode() for part in parts
    ]
    with Service(setting) as service:

        def ask():
            for body in bodies:
                service.post("/v1/prompts/check", body)

        asking = [threading.Thread(target=ask) for _ in range(32)]
        for thread in asking:
            thread.start()
        for thread in asking:
            thread.join()
        yield from service.faults()

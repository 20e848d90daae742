"""Reports and policies that somebody else wrote, given to the commands that read them."""

import json

from harness import attack
from images import END, docker_archive, entry, token, tokens

NAME = "a\x1b]0;title\x07\u202e\x9b<script>alert(1)</script>`|\n"


def report(setting):
    """A report of a scan, to be changed."""
    path = docker_archive(setting.at("image.tar"), [entry("app/.env", tokens(3)) + END])
    setting.scan(path, "--format", "json", "-o", setting.at("report.json"))
    with open(setting.at("report.json")) as file:
        return json.load(file)


def render(setting, document, *arguments):
    path = setting.write("hostile.json", document if isinstance(document, bytes) else json.dumps(document).encode())
    return setting.run("render", path, *arguments)


@attack(0, 1, 2, 3)
def names_in_a_report(setting):
    document = report(setting)
    for finding in document["findings"]:
        finding["path"] = NAME
    document["target"] = document["image"]["reference"] = NAME
    for layer in document["layers"]:
        layer["created_by"] = layer["media_type"] = NAME
    for form in ("text", "html", "markdown", "sarif", "junit", "gitlab", "cyclonedx", "bodyfile", "timesketch", "json"):
        outcome = render(setting, document, "--format", form)
        yield outcome
        for mark in ("\x1b", "\x07", "\u202e", "\x9b"):
            if mark.encode() in outcome.out + outcome.err:
                yield f"{form} steers a terminal"
        if form == "html" and b"<script>alert" in outcome.out:
            yield "a name is markup"


@attack(0, 1, 2, 3)
def reports_that_are_huge(setting):
    document = report(setting)
    one = document["findings"][0]
    document["findings"] = [{**one, "path": f"f{number}", "note": "n" * 200} for number in range(40_000)]
    for form in ("text", "html", "sarif", "json"):
        yield render(setting, document, "--format", form, "-o", "/dev/null")


@attack(2)
def documents_that_are_not_reports(setting):
    for document in (b"", b"{", b"[" * 1_000_000, b'{"schema":1,"findings":' + b"[" * 100_000, b"\xff\xfe", b"null", b"[]"):
        yield render(setting, document)


@attack(2)
def files_without_an_end(setting):
    yield setting.run("render", "/dev/zero", most=30)
    path = docker_archive(setting.at("image.tar"), [entry("a", token().encode()) + END])
    yield setting.scan(path, "--baseline", "/dev/zero", most=30)


@attack(0, 1, 2, 3)
def a_diff_of_hostile_images(setting):
    before = docker_archive(setting.at("before.tar"), [entry(NAME, tokens(500)) + END])
    after = docker_archive(setting.at("after.tar"), [entry(NAME + "x", tokens(500, 400)) + END])
    outcome = setting.run("diff", before, after)
    yield outcome
    if b"\x1b]" in outcome.out or token(3).encode() in outcome.out + outcome.err:
        yield "a name steers a terminal, or a token gets out"

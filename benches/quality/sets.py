"""The labelled sets: each a list of samples, which are files that hold one secret, or none.

Nothing is copied into the repository. A set is made at run time from what a scanner that is installed says it looks
for, or from what Layersift's own signatures give as examples.
"""

import json
import re
import subprocess
import tomllib
from dataclasses import dataclass

import real
from make import Maker

# Files made for each rule.
EACH = 3


@dataclass(frozen=True)
class Sample:
    """One file."""

    family: str
    rule: str
    text: str


def from_betterleaks(binary):
    """Matches of Betterleaks' own rules (MIT). Rules for paths alone, and generic ones that judge by their own
    lists of words, are left out, as are those for names of accounts, which are no secret."""
    config = subprocess.run([binary, "config", "show", "toml"], capture_output=True, text=True, check=True).stdout
    rules = tomllib.loads(config)["rules"]
    return from_expressions((rule["id"], rule["id"].split("-")[0], rule["regex"])
                            for rule in rules if "regex" in rule and not rule["id"].startswith("generic-"))


def from_kingfisher(binary):
    """Matches of Kingfisher's own rules (Apache-2.0)."""
    listed = subprocess.run([binary, "rules", "list", "--format", "json", "--no-update-check"],
                            capture_output=True, text=True, check=True).stdout
    return from_expressions((rule["id"], rule["id"].split(".")[1], rule["pattern"])
                            for rule in json.loads(listed) if "generic" not in rule["id"])


def from_expressions(rules):
    """Matches of `rules`, each an id, a family and an expression; and the ids of those that none was made for."""
    samples, unmade = [], []
    for rule, family, expression in rules:
        if is_public(rule):
            continue
        made = make(rule, expression)
        samples += [Sample(family, rule, text) for text in made]
        if not made:
            unmade.append(rule)
    return samples, unmade


def from_layersift(binary, field):
    """The examples, or the counterexamples, that prove Layersift's own signatures."""
    rules = json.loads(subprocess.run([binary, "rules", "list", "--format", "json"],
                                      capture_output=True, text=True, check=True).stdout)
    samples = []
    for rule in rules:
        samples += [Sample(rule["id"].split(".")[0], rule["id"], text) for text in rule.get(field, [])]
    return samples, []


# How the names of rules end that look for what is no secret by itself: names of accounts and applications, addresses,
# and keys that are made to be published (those of Mapbox that begin with pk, of PostHog for browsers).
PUBLIC = re.compile(r"""(client-id|access-id|-id|user-id|key-id|publishable[\w-]*|public-key|pub-key|pub-api-key|-domain|-host
    |(?<!hook)-url|account-name|cloud-name|token-repository|mapbox-api-token|posthog-project-api-key|access-key-id)
    (\.\d+)?$""", re.X)


def is_public(rule):
    """Whether a rule looks for what is no secret by itself."""
    return PUBLIC.search(rule) is not None


# How Betterleaks and Kingfisher write "a name, up to twenty characters, an operator, and then the secret".
NAMED = re.compile(r"""^(?:\[\w\.-\]\{0,50\}\?)?(?P<names>\(.*?\))\(\?:\[ \\t\\w\.-\]\{0,20\}\).*?\{0,5\}(?P<secret>\(.*\))\(\?:\\\\\?\['"""
                   , re.S)
# Where such a secret stands in real files.
PLACES = ('{name}_{word} = "{secret}"', "{NAME}_{WORD}={secret}", '"{name}{Word}": "{secret}",')


def make(rule, expression):
    """Up to EACH matches of `expression`; none where it cannot be read.

    What is a document is made as one, and checksums are right. Where a name, an operator and a secret are asked for, these are put together as people do, and not as the expression
    would also allow: `datadog >= ||` is in no file.
    """
    if documents := [text for text in (real.document(rule, number) for number in range(EACH)) if text]:
        return documents
    named = NAMED.match(expression.removeprefix("(?i)"))
    try:
        if not named:
            maker = Maker(expression, seed=rule)
            return [real.with_checksum(text) for text in (maker.match() for _ in range(EACH)) if text]
        names, secrets = Maker(named["names"], seed=rule), Maker(named["secret"], seed=rule)
    except Exception:
        return []
    word = next((word for word in ("secret", "password", "token") if word in rule), "key")
    word = {"key": "api_key", "secret": "client_secret" if "client" in rule else "secret_key"}.get(word, word)
    return [
        place.format(name=name.lower(), NAME=name.upper(), word=word, WORD=word.upper(),
                     Word=word.title().replace("_", ""), secret=secrets.match())
        for place, name in zip(PLACES, (names.match() for _ in PLACES))
    ]

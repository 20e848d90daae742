"""Text that an expression matches: random where the expression leaves a choice, the same for the same seed.

Expressions are in the syntax of Go's RE2, of which Python's `re` reads nearly all; `translate` does the rest.
"""

import random
import re
import string
from re import _constants as op
from re import _parser as parser

PRINTABLE = [chr(c) for c in range(0x20, 0x7F)]
WORD = string.ascii_letters + string.digits + "_"
CLASSES = {
    op.CATEGORY_DIGIT: string.digits,
    op.CATEGORY_WORD: WORD,
    op.CATEGORY_SPACE: " ",
}
POSIX = {
    "[:alnum:]": "0-9A-Za-z", "[:alpha:]": "A-Za-z", "[:digit:]": "0-9", "[:lower:]": "a-z", "[:upper:]": "A-Z",
    "[:xdigit:]": "0-9A-Fa-f", "[:word:]": "0-9A-Za-z_", "[:space:]": " ", "[:punct:]": "!-/:-@\\[-`{-~",
}
# What a repetition without end adds to its least.
SOME = 6


def translate(expression):
    """The expression as Python reads it."""
    for name, characters in POSIX.items():
        expression = expression.replace(name, characters)
    expression = expression.replace(r"\z", r"\Z")
    # Flags in the middle hold for the rest of their group: Python wants a group of their own.
    while (flag := re.search(r"\(\?([ims]+)\)", expression)) is not None:
        start, end = flag.span()
        depth, at = 0, end
        while at < len(expression):
            character = expression[at]
            if character == "\\":
                at += 2
                continue
            if character == "[":
                at = closing_bracket(expression, at)
            depth += (character == "(") - (character == ")")
            if depth < 0:
                break
            at += 1
        expression = f"{expression[:start]}(?{flag[1]}:{expression[end:at]}){expression[at:]}"
    return expression


def closing_bracket(expression, at):
    """Where the class that opens at `at` closes."""
    at += 2 if expression[at + 1] != "^" else 3
    while expression[at] != "]":
        at += 2 if expression[at] == "\\" else 1
    return at


class Maker:
    """Makes matches of one expression."""

    def __init__(self, expression, seed):
        self.tree = parser.parse(translate(expression))
        self.compiled = re.compile(translate(expression))
        self.random = random.Random(seed)

    def match(self):
        """A text that the expression matches, or None where none was hit upon."""
        for _ in range(200):
            self.groups = {}
            text = self.sequence(self.tree)
            # At either end of a line stands what ends a word.
            if self.compiled.search(f"\n{text}\n"):
                return text
        return None

    def sequence(self, tree):
        return "".join(self.one(kind, value) for kind, value in tree)

    def one(self, kind, value):
        choose = self.random.choice
        if kind is op.LITERAL:
            return chr(value)
        if kind is op.NOT_LITERAL:
            return choose([c for c in PRINTABLE if c != chr(value)])
        if kind is op.ANY:
            return choose(string.ascii_letters)
        if kind is op.IN:
            return choose(self.members(value))
        if kind is op.BRANCH:
            return self.sequence(choose(value[1]))
        if kind is op.SUBPATTERN:
            text = self.sequence(value[3])
            self.groups[value[0]] = text
            return text
        if kind in (op.MAX_REPEAT, op.MIN_REPEAT, op.POSSESSIVE_REPEAT):
            least, most, inner = value
            most = min(least + SOME, most)
            if least == 0 and most == 1:
                most = self.random.randint(0, 1)
            return "".join(self.sequence(inner) for _ in range(self.random.randint(least, max(least, most))))
        if kind is op.GROUPREF:
            return self.groups.get(value, "")
        return ""

    def members(self, value):
        """The characters of a class, printable ones where there are any."""
        negated = value[0][0] is op.NEGATE
        members = set()
        for kind, inner in value:
            if kind is op.LITERAL:
                members.add(chr(inner))
            elif kind is op.RANGE:
                members.update(map(chr, range(inner[0], min(inner[1], 0x7F) + 1)))
            elif kind is op.CATEGORY:
                members.update(CLASSES.get(inner, PRINTABLE))
        if negated:
            members = set(PRINTABLE) - members or {"\n"}
        preferred = [c for c in members if c in PRINTABLE and c not in "'\"`\\"]
        return sorted(preferred or members)

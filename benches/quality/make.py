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
# What a repetition adds to its least.
SOME = 6
# How long the parts of a token are where the expression names hardly a length.
PART = (12, 32)
# What people write where an expression allows anything at all between a name and what comes behind.
BETWEEN_WORDS = "_"
BEFORE_A_VALUE = (" = ", "=", ": ")


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
        for _ in range(400):
            self.groups = {}
            text = self.sequence(self.tree)
            # At either end of a line stands what ends a word.
            if self.compiled.search(f"\n{text}\n"):
                return text
        return None

    def sequence(self, tree, more=False):
        """A match of the parts of `tree`; `more` says that anything may stand somewhere behind it, too."""
        parts = list(tree)
        return "".join(self.one(kind, value, more or has_anything(parts[at + 1:]))
                       for at, (kind, value) in enumerate(parts))

    def one(self, kind, value, more):
        choose = self.random.choice
        if kind is op.LITERAL:
            return chr(value)
        if kind is op.NOT_LITERAL:
            return choose([c for c in PRINTABLE if c != chr(value)])
        if kind is op.ANY:
            # Who writes a dot alone means one.
            return "."
        if kind is op.IN:
            return choose(self.members(value))
        if kind is op.BRANCH:
            return self.sequence(choose(value[1]), more)
        if kind is op.SUBPATTERN:
            text = self.sequence(value[3], more)
            self.groups[value[0]] = text
            return text
        if kind in (op.MAX_REPEAT, op.MIN_REPEAT, op.POSSESSIVE_REPEAT):
            least, most, inner = value
            if is_anything(kind, value):
                # The rest of a line is as well left out.
                return "" if most is op.MAXREPEAT else BETWEEN_WORDS if more else choose(BEFORE_A_VALUE)
            if most is op.MAXREPEAT and 0 < least < 6 and self.is_token(inner):
                return "".join(self.sequence(inner) for _ in range(self.random.randint(*PART)))
            most = min(least + SOME, most)
            if least == 0 and most == 1:
                most = self.random.randint(0, 1)
            return "".join(self.sequence(inner) for _ in range(self.random.randint(least, max(least, most))))
        if kind is op.GROUPREF:
            return self.groups.get(value, "")
        return ""

    def is_token(self, inner):
        """Whether `inner` is one character of a token: letters and digits, or digits alone."""
        if len(inner) != 1 or inner[0][0] is not op.IN:
            return False
        members = self.members(inner[0][1])
        return any(c.isalpha() for c in members) and any(c.isdigit() for c in members) and "/" not in members

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


def is_anything(kind, value):
    """Whether a part stands for some characters of any kind, or none."""
    if kind not in (op.MAX_REPEAT, op.MIN_REPEAT, op.POSSESSIVE_REPEAT):
        return False
    least, most, inner = value
    return least == 0 and most >= 8 and any(is_any_character(*part) for part in inner)


def is_any_character(kind, value):
    if kind is op.SUBPATTERN:
        return len(value[3]) == 1 and is_any_character(*value[3][0])
    if kind is op.BRANCH:
        return any(len(way) == 1 and is_any_character(*way[0]) for way in value[1])
    if kind is op.IN:
        kinds = {inner for part, inner in value if part is op.CATEGORY}
        return {op.CATEGORY_SPACE, op.CATEGORY_NOT_SPACE} <= kinds
    return kind is op.ANY


def has_anything(parts):
    """Whether one of `parts`, or of what they hold, stands for any characters."""
    for kind, value in parts:
        if is_anything(kind, value):
            return True
        if kind is op.SUBPATTERN and has_anything(value[3]):
            return True
        if kind is op.BRANCH and any(has_anything(way) for way in value[1]):
            return True
        if kind in (op.MAX_REPEAT, op.MIN_REPEAT, op.POSSESSIVE_REPEAT) and has_anything(value[2]):
            return True
    return False

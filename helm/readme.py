#!/usr/bin/env python3
"""Writes the table of values in helm/tapster/README.md from the comments in values.yaml.

    python3 helm/readme.py            # write it
    python3 helm/readme.py --check    # say whether it is as it would be written

A comment that begins with `# --` describes the key below it, `## ` begins a section. A key without a description of
its own belongs to the one above it: the table shows that one with all that is in it.
"""

import json
import re
import sys
from pathlib import Path

CHART = Path(__file__).resolve().parent / "tapster"
BEGIN, END = "<!-- values: from here on written by helm/readme.py -->", "<!-- values: up to here -->"
KEY = re.compile(r"^( *)([A-Za-z0-9_-]+):(?: (.*))?$")


class Value:
    """A key with a description: where it is, what it says, and the lines of its default."""

    def __init__(self, section, path, text, first):
        self.section, self.path, self.text, self.lines = section, path, text, [first]

    @property
    def default(self):
        """Its default in one line, as YAML."""
        first, rest = self.lines[0], self.lines[1:]
        if not rest:
            return first
        import yaml

        return json.dumps(yaml.safe_load("\n".join(rest)))


def values(text):
    """All described values of a values.yaml, in its order."""
    found, stack, section, comment = [], [], "", None
    indent_of_value = None
    for line in text.splitlines():
        if line.startswith("## "):
            section = line[3:]
            comment = None
            continue
        stripped = line.strip()
        if stripped.startswith("# -- "):
            comment = [stripped[5:]]
            continue
        if stripped.startswith("#"):
            if comment is not None:
                comment.append(stripped[1:].strip())
            continue
        if not stripped:
            comment = None
            continue
        key = KEY.match(line)
        indent = len(line) - len(line.lstrip())
        if comment is None and indent_of_value is not None and (indent > indent_of_value or key is None):
            found[-1].lines.append(line)
            continue
        if key is None:
            raise SystemExit(f"values.yaml: not understood: {line}")
        while stack and stack[-1][0] >= indent:
            stack.pop()
        stack.append((indent, key.group(2)))
        indent_of_value = None
        if comment is not None:
            path = ".".join(name for _, name in stack)
            found.append(Value(section, path, " ".join(comment), key.group(3) or ""))
            indent_of_value, comment = indent, None
        elif key.group(3):
            raise SystemExit(f"values.yaml: `{'.'.join(name for _, name in stack)}` has no description (`# -- …`)")
    return found


def table(text):
    """The Markdown of all values."""
    lines, section = [], None
    for value in values(text):
        if value.section != section:
            section = value.section
            lines += ["", f"### {section}", "", "| value | default | |", "|---|---|---|"]
        cells = [f"`{value.path}`", f"`{value.default}`", value.text]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def main():
    path = CHART / "README.md"
    old = path.read_text()
    head, rest = old.split(BEGIN)
    tail = rest.split(END)[1]
    new = head + BEGIN + "\n" + table((CHART / "values.yaml").read_text()) + "\n" + END + tail
    if "--check" in sys.argv[1:]:
        if new != old:
            raise SystemExit("helm/tapster/README.md is not what values.yaml says: python3 helm/readme.py writes it")
    elif new != old:
        path.write_text(new)


if __name__ == "__main__":
    main()

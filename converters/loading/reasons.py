"""What other libraries' exceptions say, in one line."""

from __future__ import annotations

_MAX_LENGTH = 200


def reason(error: BaseException) -> str:
    """Returns the core of an exception's text in one line, without the configurations that Keras appends."""
    text = str(error).rpartition("Exception encountered:")[2].partition("Full object config:")[0]
    lines = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    line = lines[1] if lines[0].endswith(":") and len(lines) > 1 else lines[0]
    line = "".join(character if character.isprintable() else "?" for character in line).rstrip(".:")
    return line if len(line) <= _MAX_LENGTH else line[:_MAX_LENGTH].rpartition(" ")[0] + " [...]"

"""Numbers of things in sentences."""

from __future__ import annotations


def counted(count: int, what: str) -> str:
    """ "1 image", "2 images": a thing whose plural has an s."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"

"""What is left of an image when details are taken away: enough to know it again."""

from __future__ import annotations

HASH_BITS = 256

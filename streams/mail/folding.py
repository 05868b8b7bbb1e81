"""Words of many languages in one spelling, so that a rule need not know who writes accents, wide forms or neither.

Mail hosts write "Empfänger", "Empfanger" and "Ｅｍｐｆ..." alike, and half of them lose the accents on the way. Texts and the
patterns that are looked for in them are folded in the same manner. What is folded is only compared, never shown or sent to.
"""

from __future__ import annotations

import unicodedata
from typing import Final

_ACCENTS: Final = dict.fromkeys(range(0x300, 0x370), None)
_LETTERS: Final = str.maketrans("łŁøØđĐıßæÆ", "lLoOdDisaA")
"""Letters that Unicode takes for their own; one for one, so that a character class stays one."""
_WIDE: Final = {0xFF01 + offset: 0x21 + offset for offset in range(94)} | {0x3000: " "}


def fold(text: str) -> str:
    """A text without accents and with plain forms of wide and compatible characters; its case stays.

    Sequences that are ASCII in a pattern stay what they are, so folding a pattern keeps its meaning.
    """
    if text.isascii():
        return text
    bare = unicodedata.normalize("NFKD", text).translate(_ACCENTS).translate(_LETTERS)
    return unicodedata.normalize("NFC", bare)


def narrow(text: str) -> str:
    """A text with the full-width forms of ASCII characters (East Asian mail systems) as ASCII; all else stays."""
    return text if text.isascii() else text.translate(_WIDE)

"""Names and values as every MLflow store takes them: other signs are written by their codes."""

import posixpath
import re
from hashlib import sha256

MAX_KEY = 250
MAX_PARAM = 6000
MAX_TAG = 5000


def key(name: str) -> str:
    """Return the name of a metric, param or tag in MLflow's alphabet: another sign becomes `:<its code>:`.

    Two names never become one; a name that is too long ends in a digest of the whole.
    """
    found = re.sub(r"[^-/. \w]", lambda sign: f":{ord(sign.group()):x}:", name)
    for sign in "/.":  # MLflow wants names that could be those of files
        norm = posixpath.normpath(found)
        if norm != found or norm == "." or norm.startswith(("/", "..")):
            found = found.replace(sign, f":{ord(sign):x}:")
    found = found or "::"
    return found if len(found) <= MAX_KEY else f"{found[: MAX_KEY - 20]}::{sha256(found.encode()).hexdigest()[:16]}"


def value(text: str, most: int = MAX_TAG) -> str:
    """Return a text that every store takes: whole signs alone, and no more than so many."""
    clean = text.replace("\0", "\\0").encode(errors="backslashreplace").decode()
    return clean if len(clean) <= most else f"{clean[: most - 1]}…"

"""Who may come in, and who may say and hear what.

Both files are mosquitto's own, so that one pair serves either backend:

* password file, a line each: ``user:$7$…`` as ``mosquitto_passwd`` writes it, or
  ``user:password`` in plain text;
* ACL file: ``user NAME``, ``topic [read|write|readwrite|deny] FILTER`` and
  ``pattern [read|write|readwrite|deny] FILTER`` with ``%u`` and ``%c``.

Without an ACL file everybody who came in may do everything.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from playground.errors import FileFormatError, PlaygroundError, closest
from playground.message import check_filter, matches

_ITERATIONS = 101
"""What mosquitto_passwd 2.0 takes; the broker asks once per connection."""
_RIGHTS = {
    "read": (True, False),
    "write": (False, True),
    "readwrite": (True, True),
    "deny": (False, False),
}


def hashed(password: str, *, salt: bytes | None = None) -> str:
    """Returns a password as a mosquitto 2 password file holds it (PBKDF2-SHA512)."""
    salt = os.urandom(12) if salt is None else salt
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, _ITERATIONS, 64)
    return (
        f"$7${_ITERATIONS}${base64.b64encode(salt).decode()}"
        f"${base64.b64encode(digest).decode()}"
    )


def _is_password(password: str, kept: str) -> bool:
    _, _, iterations, salt, digest = kept.split("$")
    wanted = base64.b64decode(digest)
    found = hashlib.pbkdf2_hmac(
        "sha512",
        password.encode(),
        base64.b64decode(salt),
        int(iterations),
        len(wanted),
    )
    return hmac.compare_digest(found, wanted)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One line of an ACL file."""

    topic_filter: str
    read: bool
    write: bool
    user: str | None = None
    """Whom it is for; None for those who came without a name."""
    is_pattern: bool = False
    """For everybody, ``%u`` and ``%c`` standing for user and client id."""

    @property
    def denies(self) -> bool:
        """Says whether the line takes rights away."""
        return not (self.read or self.write)

    def covers(self, topic: str, user: str | None, client_id: str) -> bool:
        """Says whether the line is about this topic of this client."""
        if not self.is_pattern:
            return self.user == user and matches(self.topic_filter, topic)
        if user is None and "%u" in self.topic_filter:
            return False
        # A client that calls itself '#' must not be handed every topic.
        if any(mark in f"{user or ''}{client_id}" for mark in "+#/"):
            return False
        written = self.topic_filter.replace("%c", client_id)
        return matches(written.replace("%u", user or ""), topic)


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Users with their hashed passwords, and the rules of an ACL file."""

    users: Mapping[str, str] = field(default_factory=dict, repr=False)
    rules: tuple[Rule, ...] | None = None
    allow_anonymous: bool = True

    def admits(self, user: str | None, password: str | None) -> bool:
        """Says whether a client that gives this name and password may come in."""
        if user is None:
            return self.allow_anonymous
        kept = self.users.get(user)
        if kept is None:
            # With nobody listed, a name is only a name.
            return self.allow_anonymous and not self.users
        return _is_password(password or "", kept)

    def may_read(self, topic: str, user: str | None, client_id: str) -> bool:
        """Says whether a message on this topic may be delivered to the client."""
        return self._may(topic, user, client_id, read=True)

    def may_write(self, topic: str, user: str | None, client_id: str) -> bool:
        """Says whether the client may publish to this topic."""
        return self._may(topic, user, client_id, read=False)

    def _may(self, topic: str, user: str | None, client_id: str, *, read: bool) -> bool:
        if self.rules is None:
            return True
        allowed = False
        for rule in self.rules:
            if rule.denies or (rule.read if read else rule.write):
                covered = rule.covers(topic, user, client_id)
                if covered and rule.denies:
                    return False
                allowed = allowed or covered
        return allowed


def read_passwords(path: Path) -> dict[str, str]:
    """Reads a password file; returns hashes by user.

    Raises:
        PlaygroundError: The file cannot be read.
        FileFormatError: A line is not ``user:password``.
    """
    users = {}
    for number, line in _lines(path, "password file"):
        user, colon, kept = line.partition(":")
        if not colon or not user or not kept:
            raise FileFormatError(
                f"{path}:{number}: a line of a password file is 'user:password'.",
                "write a user, a colon and the password, "
                "or have mosquitto_passwd write the file",
            )
        if kept.startswith("$6$"):
            raise FileFormatError(
                f"{path}:{number}: the password of {user!r} is hashed as mosquitto 1 "
                "did it ($6$); only mosquitto 2's ($7$) is known.",
                f"write it anew: mosquitto_passwd {path.name} {user}",
            )
        if not kept.startswith("$7$"):
            kept = hashed(kept)
        elif kept.count("$") != 4 or not kept.split("$")[2].isdigit():
            raise FileFormatError(
                f"{path}:{number}: the hash of {user!r} is cut off or damaged.",
                f"write it anew: mosquitto_passwd {path.name} {user}",
            )
        users[user] = kept
    return users


def read_rules(path: Path) -> tuple[Rule, ...]:
    """Reads an ACL file.

    Raises:
        PlaygroundError: The file cannot be read.
        FileFormatError: A line is not one of mosquitto's ACL lines.
    """
    rules = []
    user: str | None = None
    for number, line in _lines(path, "ACL file"):
        word, _, rest = line.partition(" ")
        rest = rest.strip()
        if word == "user" and rest:
            user = rest
            continue
        if word not in ("topic", "pattern") or not rest:
            known = ("user", "topic", "pattern")
            raise FileFormatError(
                f"{path}:{number}: {line!r} is not a line of an ACL file."
                f"{closest(word, known)}",
                "write 'user NAME', 'topic read FILTER' or 'pattern write FILTER'",
            )
        right, _, topic_filter = rest.partition(" ")
        if right not in _RIGHTS or not topic_filter:
            # Topics may contain spaces, so only a known right is one.
            right, topic_filter = "readwrite", rest
        read, write = _RIGHTS[right]
        try:
            check_filter(topic_filter.strip())
        except PlaygroundError as error:
            raise FileFormatError(
                f"{path}:{number}: {error.problem}", error.fix
            ) from error
        rules.append(
            Rule(
                topic_filter=topic_filter.strip(),
                read=read,
                write=write,
                user=user,
                is_pattern=word == "pattern",
            )
        )
    return tuple(rules)


def _lines(path: Path, what: str) -> list[tuple[int, str]]:
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PlaygroundError(
            f"The {what} {str(path)!r} cannot be read: {error}.",
            "check its name and its permissions",
        ) from error
    numbered = enumerate((line.strip() for line in text.splitlines()), start=1)
    return [(n, line) for n, line in numbered if line and not line.startswith("#")]

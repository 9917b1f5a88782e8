"""Why ssh could not connect, in sentences that say what to do."""

from __future__ import annotations

import re

from edgelstm.targets.remote.shell import last_line
from edgelstm.targets.ssh.address import Address

_PROBLEMS: tuple[tuple[str, str], ...] = (
    # In the order of what tells most: a changed key is followed by "verification failed".
    (
        r"REMOTE HOST IDENTIFICATION HAS CHANGED",
        "it shows another host key than before. If the device was installed anew, remove the old key: {forget}; then "
        "connect once by: ssh {login}. If it was not, somebody may be answering in its place",
    ),
    (
        r"(No \S+ host key is known|Host key verification failed)",
        "its host key is not known here. Connect once by: ssh {login}; compare the fingerprint it shows with the "
        "device's own (ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub there), and answer yes",
    ),
    (
        r"UNPROTECTED PRIVATE KEY FILE",
        "ssh ignores a private key that others can read. Keep it to yourself: chmod 600 and the file's name",
    ),
    (
        r"Too many authentication failures",
        "it was offered too many keys. Name the one for it in ~/.ssh/config by IdentityFile and IdentitiesOnly yes",
    ),
    (
        r"Permission denied",
        "it takes none of your keys; passwords are never asked for here. Bring it your key: ssh-copy-id {login}; where "
        "the key has a passphrase, load it first: ssh-add",
    ),
    (
        r"Could not resolve hostname",
        "there is no host {host}. Check the name, or give the device's number (hostname -I)",
    ),
    (
        r"Connection refused",
        "it is there, but no ssh server answers{port}. Switch it on there (sudo raspi-config, Interface Options, SSH; "
        "elsewhere sudo apt install openssh-server), or give its port",
    ),
    (
        r"(timed out|No route to host|Network is unreachable|Host is down)",
        "it does not answer. Check that it is on and in the same network: ping {host}",
    ),
    (
        r"(Bad configuration option|Bad owner or permissions|Can't open user config file|terminating, \d+ bad)",
        "ssh refuses its configuration: {last}. Correct that file",
    ),
    (
        r"no matching (host key|key exchange|cipher|MAC)",
        "it and the ssh here have no method in common: {last}. Update the older of the two",
    ),
    (
        r"(kex_exchange_identification|Connection closed by|Connection reset by)",
        "it closed the connection before anybody could log in ({last}). Look into its log there (sudo journalctl -u "
        "ssh), wait a minute, and try again",
    ),
)
"""What ssh writes, and what that means; the first that fits counts."""

# Before OpenSSH 9 the quotes were double ones.
_FORGET = re.compile(r"""^ *ssh-keygen -f (['"])([^'"`$\\\n]+)\1 -R (['"])([A-Za-z0-9_.:%\[\]-]+)\3 *$""", re.MULTILINE)


def explain(name: str, address: Address, notes: str) -> str:
    """Says in a sentence why there was no connection.

    Args:
        name: Of the target.
        address: Where to.
        notes: What ssh wrote to stderr, or what came instead of an answer.
    """
    words = {
        "login": address.login,
        "host": address.host,
        "port": f" at port {address.port}" if address.port else "",
        "forget": _how_to_forget(address, notes),
        "last": last_line(notes),
    }
    for pattern, text in _PROBLEMS:
        if re.search(pattern, notes):
            return f"{name}: {text.format(**words)}."
    said = f" ({words['last']})" if words["last"] else ""
    return (
        f"{name}: logging in brought no shell that runs commands{said}. Try: ssh {address.login} echo hello; that "
        "must print hello and nothing else."
    )


def _how_to_forget(address: Address, notes: str) -> str:
    """Returns the command that removes an old key: with the file that ssh named, since it knows which one holds it.

    Only words that a shell takes as they are: others than ssh may have written there.
    """
    told = _FORGET.search(notes)
    return f"ssh-keygen -f '{told[2]}' -R '{told[4]}'" if told else f"ssh-keygen -R '{address.known_as}'"

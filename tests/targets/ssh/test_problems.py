"""Why ssh could not connect: what OpenSSH 8.4 to 9.9 writes, and what a person is told."""

from __future__ import annotations

import pytest

from edgelstm.targets.ssh.address import Address
from edgelstm.targets.ssh.problems import explain

NAME = "ssh://pi@board:2222"
CHANGED = """\
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @
Offending ED25519 key in /home/ann/.ssh/known_hosts:3
{}Host key for board has changed and you have requested strict checking.
Host key verification failed.
"""


@pytest.mark.parametrize(
    "notes, text",
    [
        ("ssh: Could not resolve hostname board: Name or service not known\n", "there is no host board"),
        ("ssh: connect to host board port 2222: Connection refused\n", "no ssh server answers at port 2222"),
        ("ssh: connect to host board port 2222: Connection timed out\n", "it does not answer"),
        ("ssh: connect to host board port 2222: No route to host\n", "ping board"),
        ("Connection timed out during banner exchange\n", "it does not answer"),
        ("pi@board: Permission denied (publickey,password).\n", "ssh-copy-id -p 2222 pi@board"),
        ("No ED25519 host key is known for [board]:2222 and you have requested strict checking.\n"
         "Host key verification failed.\n", "Connect once by: ssh -p 2222 pi@board"),
        (CHANGED.format(""), "ssh-keygen -R '[board]:2222'"),
        (CHANGED.format('  ssh-keygen -f "/k" -R "[board]:2222"\n'), "key: ssh-keygen -f '/k' -R '[board]:2222';"),
        (CHANGED.format("  ssh-keygen -f '/my k' -R 'alias'\n"), "key: ssh-keygen -f '/my k' -R 'alias';"),
        (CHANGED.format("  ssh-keygen -f '/k' -R 'x'; reboot; echo 'x'\n"), "key: ssh-keygen -R '[board]:2222';"),
        (CHANGED.format('  ssh-keygen -f "/$(reboot)" -R "x"\n'), "key: ssh-keygen -R '[board]:2222';"),
        (CHANGED.format("  ssh-keygen -q -f '/k' -R 'x'\n"), "key: ssh-keygen -R '[board]:2222';"),
        ("/home/ann/.ssh/config: line 3: Bad configuration option: x\n", "line 3: Bad configuration option: x"),
        ("kex_exchange_identification: read: Connection reset by peer\n", "journalctl -u ssh"),
        ("Unable to negotiate with 1.2.3.4 port 22: no matching host key type found. Their offer: ssh-rsa\n",
         "no method in common"),
        ("Received disconnect from 1.2.3.4: 2: Too many authentication failures\n", "IdentitiesOnly yes"),
        ("WARNING: UNPROTECTED PRIVATE KEY FILE!\npi@board: Permission denied (publickey).\n", "chmod 600"),
        ("Welcome to the router. Type help.\n", "no shell that runs commands (Welcome to the router"),
        ("", "Try: ssh -p 2222 pi@board echo hello"),
    ],
)  # fmt: skip
def test_each_problem_is_one_sentence_that_says_what_to_do(notes, text):
    told = explain(NAME, Address("board", "pi", 2222), notes)
    assert text in told
    assert told.startswith(f"{NAME}: ")
    assert told.endswith(".")
    assert "\n" not in told


def test_a_changed_key_is_not_taken_for_an_unknown_one():
    told = explain(NAME, Address("board"), CHANGED.format(""))
    assert "another host key than before" in told
    assert "is not known here" not in told

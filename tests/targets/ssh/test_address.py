from __future__ import annotations

import pytest

from edgelstm.errors import SettingError
from edgelstm.targets.ssh.address import Address


@pytest.mark.parametrize(
    "name, expected",
    [
        ("ssh://pi@raspberrypi", Address("raspberrypi", "pi")),
        ("ssh://raspberrypi", Address("raspberrypi")),
        ("ssh://pi@raspberrypi.local:2222/", Address("raspberrypi.local", "pi", 2222)),
        ("ssh://pi@192.168.1.7", Address("192.168.1.7", "pi")),
        ("ssh://pi@[fe80::1%eth0]:22", Address("fe80::1%eth0", "pi", 22)),
        ("ssh://[::1]", Address("::1")),
        ("ssh://ann@example.org@gate", Address("gate", "ann@example.org")),
        ("ssh://my_board", Address("my_board")),
    ],
)
def test_names_are_read(name, expected):
    assert Address.parse(name) == expected


@pytest.mark.parametrize(
    "name, text",
    [
        ("ssh://", "'' cannot be a host"),
        ("ssh://pi@", "'' cannot be a host"),
        ("ssh://@board", "'' cannot be a user's name"),
        ("ssh://-oProxyCommand=touch x", "cannot be a host"),
        ("ssh://-oProxyCommand@board", "'-oProxyCommand' cannot be a user's name"),
        ("ssh://pi@-board", "'-board' cannot be a host"),
        ("ssh://pi@[-oProxyCommand::]", "cannot be a host"),
        ("ssh://pi;reboot@board", "cannot be a user's name"),
        ("ssh://pi@board$(reboot)", "cannot be a host"),
        ("ssh://pi@board\nx", "cannot be a host"),
        ("ssh://pi@fe80::1", "put an IPv6 address in brackets"),
        ("ssh://pi@board:", "'' cannot be a port"),
        ("ssh://pi@board:0", "'0' cannot be a port"),
        ("ssh://pi@board:65536", "cannot be a port, a number from 1 to 65535"),
        ("ssh://pi@board:22x", "cannot be a port"),
        ("ssh://pi@board:-1", "cannot be a port"),
        ("ssh://pi@board/tmp", "cannot be a host"),
    ],
)
def test_other_names_are_refused(name, text):
    with pytest.raises(SettingError, match=r"ssh://pi@raspberrypi\.$") as caught:
        Address.parse(name)
    assert text in str(caught.value)


def test_commands_for_people_name_the_same_place():
    address = Address.parse("ssh://pi@board:2222")
    assert (address.login, address.known_as) == ("-p 2222 pi@board", "[board]:2222")
    assert (Address("board").login, Address("board", port=22).known_as) == ("board", "board")

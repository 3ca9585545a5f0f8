"""The judge of scripts/talk.py, which says what members of a room lost while a cluster was shaken."""

import importlib.util

from conftest import ROOT

spec = importlib.util.spec_from_file_location("talk", ROOT / "scripts" / "talk.py")
talk = importlib.util.module_from_spec(spec)
spec.loader.exec_module(talk)


def member(*events):
    one = talk.Member("room", "m", None, 1)
    for kind, epoch, seq, *rest in events:
        event = {"type": kind, "epoch": epoch, "seq": seq, "originServer": "s"}
        one.take(event | ({"reason": rest[0]} if kind == "reset" else {"id": rest[0]} if rest else {}))
    return one


def verdict(*events, acked=((1, "a"), (2, "b"), (3, "c"))):
    one = member(("joined", "e", 0), *events)
    one.acked = {id_: ("e", seq) for seq, id_ in acked}
    _, lost, doubled, disorder, told = talk.judge([one])
    return len(lost), len(doubled), len(disorder), told


A, B, C = ("message", "e", 1, "a"), ("message", "e", 2, "b"), ("message", "e", 3, "c")


def test_all_is_well():
    assert verdict(A, B, C) == (0, 0, 0, 0)
    # It comes back and gets the rest.
    assert verdict(A, ("joined", "e", 3), B, C) == (0, 0, 0, 0)


def test_a_message_that_is_missing_is_lost():
    assert verdict(A, C) == (1, 0, 0, 0)
    assert verdict(A, B) == (1, 0, 0, 0)


def test_unless_a_reset_has_told_of_it():
    assert verdict(A, ("reset", "e", 2, "trimmed"), C) == (0, 0, 0, 1)
    assert verdict(A, ("reset", "f", 0, "new_epoch")) == (0, 0, 0, 2)


def test_twice_is_twice():
    assert verdict(A, A, B, C) == (0, 1, 1, 0)
    assert verdict(A, B, ("message", "e", 4, "a"), C)[1] == 1


def test_the_order_is_that_of_the_numbers():
    assert verdict(A, C, B) == (0, 0, 1, 0)


def test_what_was_before_a_member_came_is_not_its_loss():
    late = member(("joined", "e", 2), C)
    late.acked = {"a": ("e", 1), "b": ("e", 2), "c": ("e", 3)}
    assert talk.judge([late])[1:] == ([], [], [], 0)

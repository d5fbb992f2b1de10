import threading

from cloud_hub.inbox import Inbox
from cloud_hub.mqtt import Connected, Incoming, Message

LONG = 60.0


def message(number: int, size: int = 1) -> Message:
    return Message(f"topic/{number}", bytes(size))


def test_what_is_put_is_taken_in_its_order_many_at_once() -> None:
    inbox: Inbox[Message] = Inbox(messages=10, octets=1000, patience=0)
    for number in range(5):
        assert inbox.put(message(number))
    assert inbox.get(3, 0) == [message(0), message(1), message(2)]
    assert inbox.get(10, 0) == [message(3), message(4)]
    assert inbox.get(10, 0) == []


def test_it_is_bounded_in_messages_and_in_bytes() -> None:
    by_number: Inbox[Message] = Inbox(messages=2, octets=1000, patience=0)
    assert [by_number.put(message(number)) for number in range(3)] == [True, True, False]
    by_size: Inbox[Message] = Inbox(messages=100, octets=100, patience=0)
    assert [by_size.put(message(number, 60)) for number in range(2)] == [True, False]
    assert by_size.put(message(9, 40))
    by_size.get(1, 0)
    assert by_size.put(message(10, 60))


def test_a_word_about_the_connection_always_fits() -> None:
    inbox: Inbox[Incoming] = Inbox(messages=1, octets=10, patience=0)
    assert inbox.put(message(1))
    assert inbox.put(Connected(), whatever=True)
    assert inbox.get(5, 0) == [message(1), Connected()]


def test_who_puts_waits_for_room_and_who_takes_waits_for_something() -> None:
    inbox: Inbox[Message] = Inbox(messages=1, octets=1000, patience=LONG)
    taken: list[Message] = []

    def take() -> None:
        while len(taken) < 50:
            taken.extend(inbox.get(1, LONG))

    taker = threading.Thread(target=take)
    taker.start()
    assert all(inbox.put(message(number)) for number in range(50))
    taker.join(LONG)
    assert taken == [message(number) for number in range(50)]


def test_after_one_waited_in_vain_nobody_waits_until_there_was_room() -> None:
    inbox: Inbox[Message] = Inbox(messages=1, octets=1000, patience=0.05)
    assert inbox.put(message(1))
    assert not inbox.put(message(2))
    inbox._patience = LONG  # from here on a wait would be seen
    assert not any(inbox.put(message(number)) for number in range(3, 100))
    assert inbox.get(1, 0) == [message(1)]
    assert inbox.put(message(100))

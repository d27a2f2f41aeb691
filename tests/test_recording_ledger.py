"""A ledger makes the columns that its messages would make one by one."""

from hypothesis import given, settings
from hypothesis import strategies as st

from playground.message import Bundle, Message
from playground.recording.columns import to_batch
from playground.recording.content import content_hash
from playground.recording.ledger import Ledger

MESSAGES = st.builds(
    Message,
    time_ns=st.integers(0, 2**62),
    topic=st.sampled_from(["a", "b/ä", "c"]),
    payload=st.binary(max_size=5),
    qos=st.integers(0, 2),
    retain=st.booleans(),
    dup=st.booleans(),
    client=st.sampled_from([None, "", "x"]),
    properties=st.sampled_from([None, None, '{"a":"ö"}']),
    kind=st.sampled_from(["publish", "publish", "will", "connect", "subscribe"]),
)
BUNDLES = st.lists(
    st.tuples(st.sampled_from("ab"), st.integers(0, 2), st.booleans()),
    min_size=1,
    max_size=4,
).map(lambda rows: Bundle(*zip(*rows, strict=True)))


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_the_rows_are_those_of_the_messages(data):
    ledger = Ledger()
    bundles = data.draw(st.lists(BUNDLES, min_size=1, max_size=2))
    for first_seq in (0, 7):  # it forgets what it has told
        messages = []
        for entry in data.draw(st.lists(st.one_of(MESSAGES, st.sampled_from(bundles)))):
            if isinstance(entry, Message):
                ledger.append(entry)
                if entry.kind in ("publish", "will"):
                    messages.append(entry)
                continue
            time_ns, client = data.draw(st.integers(0, 99)), data.draw(st.text())
            payloads = [data.draw(st.binary(max_size=3)) for _ in entry.topics]
            ledger.extend(time_ns, client, entry, payloads)
            messages += entry.messages(time_ns, client, payloads)
        rows = ledger.to_batch(first_seq)
        expected = to_batch(messages, range(first_seq, first_seq + len(messages)))
        assert rows.equals(expected) or rows.to_pylist() == expected.to_pylist()
        assert content_hash(iter([rows])) == content_hash(iter([expected]))

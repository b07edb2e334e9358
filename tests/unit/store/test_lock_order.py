"""The recorder of lock orders finds violations."""

from tests.support.lock_order import Order

WAITING = (
    "DECLARE @taken INT; EXEC @taken = sp_getapplock @Resource = ?, @LockOwner = N'Transaction'; "
    "IF @taken < 0 THROW 5, N'', 1;"
)
TRYING = WAITING.replace("N'Transaction';", "N'Transaction', @LockTimeout = 0;")
UPDATE = "UPDATE jobfac.run SET state = 'queued' WHERE jobfac.run.id = ?"


def test_waiting_for_a_named_lock_after_a_row_is_a_violation() -> None:
    order = Order()
    assert order.breach(UPDATE, []) is None
    assert order.breach(TRYING, ["a"]) is None
    assert order.breach(WAITING, ["b"]) is not None
    assert order.breach(TRYING.replace("= 0", "= @wait"), ["c"]) is not None, "a moment, too"


def test_unsorted_named_locks_are_a_violation() -> None:
    order = Order()
    assert order.breach(WAITING, ["b"]) is None
    assert order.breach(WAITING, ["c"]) is None
    assert order.breach(WAITING, ["a"]) is not None
    assert Order().breach(WAITING, ["b", "a"]) is not None


def test_tables_must_be_locked_in_order() -> None:
    order = Order()
    held = "SELECT jobfac.worker.state FROM jobfac.worker WITH (ROWLOCK, UPDLOCK, FORCESEEK) WHERE jobfac.worker.id = 1"
    due = "SELECT TOP 5 id FROM jobfac.schedule WITH (UPDLOCK, READPAST) WHERE 1 = 1"
    assert [order.breach(text, []) for text in (held, UPDATE, due)] == [None] * 3
    assert order.breach(UPDATE, []) is not None

"""What the distance to a missed goal is made of, as found by profiling. The first line that fits a figure is shown beside it."""

from __future__ import annotations

from measuring.report import Cell, Report

ENGINE = "the engine's own way from the call to the announcement and back, some 200 µs in six turns of its event loop"
SNAPSHOT = "the raw client hands over bytes; ours are decoded and checked (3 µs of Python for each instance, of which the JSON is one), made into records of the store (1 µs) and placed by their ids (1.2 µs)"
PARSER = "redis-py reads the reply in Python, which takes 5 µs an instance in its asynchronous form and 2 in the blocking one; hiredis, where it is installed, takes nearly all of both away"
STORM = "each address is checked before it is published (2 µs), made into a record (1.5 µs) and booked until it is confirmed (2 µs); the raw client sends records that are ready"
PUT_REDIS = "packing the arguments of the script, which has a dozen commands for each record where the raw client sends two, takes 3 µs; the rest is the server's"
PUT_ETCD = "each is a condition, a write and, if the condition fails, a look (2 µs to make them), and is told to the watch by which a loss is noticed: 19 µs on the engine's thread in all, 3 on those of grpc"
PUT_ZOOKEEPER = "each write is told to the watch by which a loss is noticed, which takes kazoo's thread 12 µs, and the engine's, that takes 19 in all, waits for the interpreter's lock meanwhile"
LOOKUP = "`dict.get` is one call into C of 20 ns. Ours is two calls of Python functions, and a look into a dictionary"
SCRIPT = "a script of a dozen commands instead of three (nobody else's record is overwritten, dead owners are swept, watches can resume from a log), and the asynchronous client"
KAZOO = "kazoo answers on a thread of its own, so that each exchange is one hop more, and the watch by which a lost record is noticed is asked for with each write"
GRPC = "a transaction with a condition instead of a put, a watch on the own key, and grpc.aio, which takes more CPU for a call than the blocking grpc"
SQLITE = "the thread that waits for SQLite (one more hop), triggers that write the log of changes, and a look whether the file is still the same"
LISTENER = "the message is parsed, the instance decoded, the copy brought in step, and the listener called on a second thread with the new view: two hops where the limit has one; the raw client calls a function from the thread that reads"
NODES = "the native layout keeps the instance in the node's data, so 10 000 nodes are read, up to a thousand a request; the limit is for layouts whose child names say it all"
PROTOBUF = "The limit was set when protobuf for Python was pure Python and the raw client took five times as long"
METADATA = "a dictionary of two keys and its two values are 330 bytes in CPython by themselves; equal metadata is shared, metadata of its own cannot be"
LOCAL = "one thread waits for SQLite, one looks for changes, one holds the locks of owners: SQLite blocks inside C, which must not stop the heartbeat"
TASKS = "two tasks of asyncio (the watch, and the comparison every 30 s) with nine coroutines and two asynchronous generators, which take half of it; the view, its mailbox and what the backend keeps of the watch take the rest"
ONE_BY_ONE = "each goes to the engine's thread and back, makes its tasks, reads and compares before it watches, and calls its listener; one by one there is nothing to share"

NOTES: tuple[tuple[str, str, str, str], ...] = (
    ("P2", "", "lookup against dict.get", LOOKUP),
    (
        "P3",
        "",
        "100 changes in one",
        "each is compared with what was there, put into the copy, and folded into what the listener has not seen",
    ),
    ("P4", "memory", "publish", f"{ENGINE}; the raw side is one entry in a dictionary"),
    ("P4", "local", "publish", f"{ENGINE}; {SQLITE}"),
    ("P4", "redis", "publish", f"{ENGINE}; {SCRIPT}"),
    ("P4", "zookeeper", "publish", f"{ENGINE}; {KAZOO}"),
    ("P4", "etcd", "publish", f"{ENGINE}; {GRPC}"),
    ("P4", "nacos", "publish", f"{ENGINE}; the service's instances go as a batch"),
    ("P5", "", "change to listener, p50", LISTENER),
    (
        "P5",
        "",
        "change to listener, 10 000",
        "the same work at each size; the sizes are measured one after the other, and what else the machine did is in it",
    ),
    ("P6", "zookeeper", "snapshot", NODES),
    ("P6", "etcd", "snapshot", f"{SNAPSHOT}. {PROTOBUF}"),
    ("P6", "redis", "snapshot", f"{SNAPSHOT}; {PARSER}"),
    ("P6", "", "snapshot", SNAPSHOT),
    (
        "P7",
        "zookeeper",
        "server up",
        f"the session has to be found lost and made anew before anything is written; then {STORM}",
    ),
    ("P7", "redis", "", f"{STORM}; {PUT_REDIS}"),
    ("P7", "etcd", "", f"{STORM}; {PUT_ETCD}"),
    ("P7", "zookeeper", "", f"{STORM}; {PUT_ZOOKEEPER}"),
    ("P8", "", "against the model of nacos", METADATA),
    ("P9", "local", "threads with one", LOCAL),
    ("P9", "redis", "files", "two exchanges at a time, which come with many subscriptions, are two connections"),
    ("P9", "", "threads with one", "the engine's thread, and those of the client library"),
    (
        "P10",
        "",
        "the package",
        "msgspec and what it imports, and the classes that are made of it; no client library and no asyncio",
    ),
    ("P10", "", "what", "our own modules, each of which makes some classes"),
    ("P11", "", "bytes", TASKS),
    ("P11", "", "time of a subscription", ONE_BY_ONE),
    (
        "P11",
        "redis",
        "idle",
        "each bucket that is watched is looked at by the renewals, since a message of Redis can be lost without anybody knowing",
    ),
    ("P11", "", "idle", "the looks at whether something was missed, and the comparisons, of a thousand services"),
    (
        "P12",
        "",
        "one change",
        "every listener has a mailbox, which is locked, filled, handed to a thread of a pool and emptied",
    ),
    (
        "P12",
        "",
        "later",
        "a listener that blocks keeps one thread of the pool; the others share the rest, and the interpreter's lock",
    ),
    (
        "P13",
        "",
        "start",
        "the first attempt to connect has to fail; then 10 000 instances are decoded from the file, checked, and put into the view",
    ),
    (
        "P15",
        "",
        "CPU against raw",
        "ours looks whether its records are there, more often than the lease would need, by which a loss is noticed; all in all it is a thousandth of a core",
    ),
)
"""Goal, backend or nothing for all, how what was measured begins, and why it is missed."""


def why(report: Report, cell: Cell) -> str:
    """The note on a figure."""
    for goal, backend, what, text in NOTES:
        if report.goal == goal and backend in {"", report.backend} and cell.what.startswith(what):
            return text
    return cell.note

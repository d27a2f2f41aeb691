"""Plain sockets: pairs, listeners, time-outs, files, poll, selectors, errors."""

import errno
import select
import selectors
import socket
import threading
import time

begin = time.monotonic()


def say(*words):
    print(*words, "at", round(time.monotonic() - begin, 6))


one, two = socket.socketpair()
one.settimeout(1.5)
try:
    one.recv(10)
except TimeoutError:
    say("timed out")
threading.Timer(1, two.sendall, (b"hello world",)).start()
say(one.recv(5), one.recv(100, socket.MSG_PEEK), one.gettimeout())
buffer = bytearray(3)
say(one.recv_into(buffer), bytes(buffer))
one.setblocking(False)
one.recv(100)
try:
    one.recv(1)
except BlockingIOError as error:
    say(errno.errorcode[error.errno])
poll = select.poll()
poll.register(one, select.POLLIN)
say("poll", poll.poll(500))
two.close()
say("poll", [events for _, events in poll.poll()], one.recv(1))
try:
    one.send(b"x")
except BrokenPipeError:
    say("broken pipe")

server = socket.create_server(("127.0.0.1", 0))
with socket.create_connection(server.getsockname()) as client:
    accepted, address = server.accept()
    assert address == client.getsockname()
    with accepted, accepted.makefile("rw") as lines:
        client.sendall(b"line\nrest")
        client.shutdown(socket.SHUT_WR)
        say(lines.readline().strip(), lines.read())
        lines.write("answer")
        lines.flush()
    say(client.recv(100), client.recv(100))
with selectors.DefaultSelector() as selector:
    selector.register(server, selectors.EVENT_READ, "server")
    say("selector", selector.select(timeout=2))
    threading.Timer(1, socket.create_connection, (server.getsockname(),)).start()
    say("selector", [key.data for key, _ in selector.select(timeout=2)])
again = socket.socket()
try:
    again.bind(server.getsockname())
except OSError as error:
    say(errno.errorcode[error.errno])
say(again.connect_ex(("broker.example", 1883)), again.getpeername()[1])
say(socket.gethostbyname("broker.example"), socket.getfqdn("198.18.0.1"))
again.close()
try:
    again.recv(1)
except OSError as error:
    say(errno.errorcode[error.errno], again.fileno())

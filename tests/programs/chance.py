"""Everything that is different each time, elsewhere."""

import os
import random
import secrets
import socket
import tempfile
import threading
import uuid

import numpy

print(random.random(), random.Random().random(), random.SystemRandom().random())
print(uuid.uuid4(), uuid.uuid1(), os.urandom(4).hex(), secrets.token_hex(4))
print(os.getpid(), socket.gethostname(), threading.get_ident(), os.uname().nodename)
print(next(tempfile._get_candidate_names()), sorted({"a", "b", "c"}), hash("text"))
print(numpy.random.default_rng().random(), numpy.random.rand())  # noqa: NPY002

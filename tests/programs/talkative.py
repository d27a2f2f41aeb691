"""Prints in every way there is."""

import logging
import sys
import time
import warnings

logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
print("one", "two", sep="-")
sys.stdout.write("half a line ")
time.sleep(1.5)
print("and the rest: äöü")
logging.getLogger("talk").info("logged")
sys.stderr.write("no end of line")
sys.stdout.buffer.write(b"raw \xff bytes\n")
warnings.warn("look out", stacklevel=1)
try:
    input("name? ")
except EOFError:
    print("nobody answers")
time.sleep(1)

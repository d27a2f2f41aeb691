"""Does not let itself be interrupted."""

import time

while True:
    try:
        time.sleep(3600)
    except KeyboardInterrupt:
        print("not now")

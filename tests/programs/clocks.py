"""Every clock there is, before and after half a second."""

# ruff: noqa: DTZ002, DTZ005, DTZ011, UP017

import datetime
import time
import zoneinfo


def show():
    print(time.time(), time.time_ns(), time.monotonic(), time.perf_counter_ns())
    print(datetime.datetime.now(), datetime.datetime.now(datetime.timezone.utc))
    print(datetime.datetime.today(), datetime.date.today(), time.localtime().tm_hour)
    print(datetime.datetime.now(zoneinfo.ZoneInfo("Asia/Tokyo")), time.ctime())
    print(time.clock_gettime(time.CLOCK_REALTIME), time.gmtime()[:6])
    print(type(datetime.datetime.now()) is datetime.datetime)


show()
time.sleep(0.5)
show()

"""Record what a plant says over MQTT, and test control code against its double.

This package imports nothing on import: the pytest plugin lives in every test
run of an environment and must cost nothing there. Import what you need from
its module, for instance ``from playground.recording import Recording``.
"""

__version__ = "0.1.0"

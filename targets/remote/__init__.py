"""Devices at the other end of a connection: what the targets "ssh" and "adb" share.

A `Shell` says how a command line gets to the device. All else is done by small sh scripts, which lie beside this file
and are sent along each time: the guard makes a folder there and removes it when the connection ends, whatever ends it;
others write files, look for a Python, and run the worker.
"""

"""A gateway device's configuration as Cisco ASA text: written (ECMP-11, ECMP-32), read, and held against the cloud's side (ECMP-31).

Pure text and data. Only what document 001 configures on a device is understood; what else a text has is listed with its line.
"""

"""The foundation: the words everybody uses (records, values, errors, topics, metrics, the shape of settings).

Imports run downstairs only, and below this room there is nothing: it imports no other room and no framework.
"""

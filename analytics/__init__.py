"""The cellar: everything at rest. The log client, the archive, the directory, ClickHouse and what reads them.

Imports run downstairs only: this room may import ``schemas`` and nothing else of ours.
"""

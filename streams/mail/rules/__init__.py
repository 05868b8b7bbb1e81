"""The YARA rules that ship with Depesche, as data."""

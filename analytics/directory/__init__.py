"""Customers, accounts, sender domains and keys: records of ``mail.directory``, followed in memory by every process."""
